"""Command `hf-reward-ext bon`: best of N by any reward."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hf_reward_ext.cli.bon_options import BonOptions
from hf_reward_ext.cli.bon_rows import check_label, describe, record_candidates, summarize
from hf_reward_ext.cli.options import is_training_free
from hf_reward_ext.cli.parser import OptionParser, command_parser

SHORT = "best of N: sample candidates, score them, keep the best"
DESCRIPTION = """\
Samples N candidates of each prompt and ranks them by a reward: an ELHSR head (scored during generation), a reward
model, a function, or the policy's own confidence. Writes candidates, or rows for TRL's trainers."""
EXAMPLES = (
    '--reward_model outputs/elhsr --prompt "6 1 3 3=12|" --num_candidates 16',
    "--reward_model outputs/elhsr --data prompts.jsonl --output pairs.jsonl --as preference",
    '--model Qwen/Qwen3-0.6B --reward_model my_rewards:shortest --chat --prompt "Name a color."',
    "--engine http://127.0.0.1:8000/v1 --served_model smol --reward_model my_rewards:shortest --data prompts.jsonl",
)


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("bon", BonOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: BonOptions) -> dict:
    """Sample, rank, and write or print."""
    from hf_reward_ext.cli.outputs import check_outputs, deliver, open_output
    from hf_reward_ext.cli.prompts import read_prompts
    from hf_reward_ext.cli.work import work_through

    check_outputs(options, "output", "html")
    prompts = read_prompts(options)
    shape, settings = _shape(options), _settings(options)
    with open_output(options) as writer:
        results = work_through(
            prompts, partial(_prepare, options, prompts, shape, settings), options, writer, "best of N"
        )
        results = list(results)
    summary = {"num_rows": len(results), **(summarize(results) if options.shape == "all" else {})}
    if options.output:
        means = {name: value for name, value in summary.items() if name != "num_rows"}
        print("; ".join([f"{len(results)} rows in {options.output}", *(f"{a} {b:.4g}" for a, b in means.items())]))
    else:
        for row in results:
            print(describe(row))
    return deliver("bon", options, results, summary)


def _prepare(options: BonOptions, prompts: list[dict], shape: Callable, settings: dict[str, Any]):
    from hf_reward_ext.base.lm.context import longest_input
    from hf_reward_ext.base.preference.chat import render_chat
    from hf_reward_ext.cli.engines import load_engine
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.memory import check_memory
    from hf_reward_ext.cli.prompts import check_room, note_form
    from hf_reward_ext.cli.traces import trace_ends, traced_model

    check_memory(options)
    with loading(str(options.reward_model), "--reward_model"):
        pipe = _pipeline(options) if options.engine == "transformers" else load_engine(options)
    policy: Any = pipe if options.engine == "transformers" else pipe.generator
    if not options.has_own_policy:  # a server has the tokenizer, and refuses long prompts
        note_form([row["prompt"] for row in prompts], policy.tokenizer, options)
        tokenizer, texts = policy.tokenizer, (row["prompt"] for row in prompts)
        lengths = (
            len(tokenizer(text)["input_ids"] if isinstance(text, str) else render_chat(text, tokenizer, True))
            for text in texts
        )
        limit = policy.longest_text if options.engine == "vllm" else longest_input(policy.model)
        check_room(lengths, limit, options.max_new_tokens)
    if options.engine == "transformers":
        settings["batch_size"] = options.batch_size

    traced = traced_model(pipe) if options.has_traces and options.shape == "all" else None
    if options.traces and traced is None:
        raise ValueError(
            "`--traces` must come with a reward of tokens (an ELHSR head, a channel, or a model of `train genarm`), "
            f"got `--reward_model {options.reward_model}`. Leave it out."
        )

    def batch(rows: list[dict]) -> list[dict]:
        groups = pipe([row["prompt"] for row in rows], **settings)
        made = [one for row, group in zip(rows, groups, strict=True) for one in shape(row["prompt"], group)]
        if traced is None:
            return made
        return [{**one, "traces": trace_ends(*traced, one["prompt"], one["completions"])} for one in made]

    return batch


def _pipeline(options: BonOptions) -> Any:
    from hf_reward_ext.best_of_n import BestOfNPipeline
    from hf_reward_ext.cli.engines import of_steps
    from hf_reward_ext.cli.models import (
        base_model_name,
        is_head,
        load_causal_lm,
        load_scorer,
        load_tokenizer,
        loading_settings,
        on_device,
        set_template_variables,
    )
    from hf_reward_ext.confidence import GroupConfidence, LogitsRewardModel
    from hf_reward_ext.elhsr import ELHSRModel

    reward_model = str(options.reward_model)
    name = options.model or base_model_name(reward_model)
    given = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
    tokenizer = set_template_variables(load_tokenizer(name, **given), options.template_variables())
    if is_head(reward_model) and not options.step_marks:
        reward: Any = ELHSRModel.from_pretrained(reward_model)
    elif is_training_free(reward_model):
        window = options.confidence_window
        reward = GroupConfidence(window=window) if window else reward_model
    else:
        reward = of_steps(load_scorer(reward_model, "--reward_model", options, options.batch_size), options)
    policy = on_device(load_causal_lm(name, revision=options.revision, **loading_settings(options)), options)
    second: Any = None
    if is_training_free(options.second_reward_model):
        second = LogitsRewardModel(policy, str(options.second_reward_model))
    elif options.second_reward_model:
        second = load_scorer(options.second_reward_model, "--second_reward_model", options, options.batch_size)
    return BestOfNPipeline(
        model=policy,
        tokenizer=tokenizer,
        reward_model=reward,
        second_reward_model=second,
        num_candidates=options.num_candidates,
    )


def _shape(options: BonOptions) -> Callable[[Any, list[dict]], list[dict]]:
    """Return the function that converts results of a prompt to rows of the file."""
    from hf_reward_ext.best_of_n import preference_rows, sft_rows
    from hf_reward_ext.cli.functions import load_function

    if options.shape == "preference":
        return partial(preference_rows, rejected=options.rejected, min_margin=options.min_margin, seed=options.seed)
    if options.shape == "sft":
        return partial(sft_rows, keep=options.keep, min_score=options.min_score)
    label = load_function(options.label, "--label", ("prompt", "completion")) if options.label else None
    check_label(label)
    return partial(record_candidates, label=label, has_pruning=bool(options.prune_at))


def _settings(options: BonOptions) -> dict[str, Any]:
    """Return the arguments of the pipeline's call, checked before a model is loaded."""
    from hf_reward_ext.best_of_n import Pruning, Resampling
    from hf_reward_ext.cli.functions import load_function
    from hf_reward_ext.cli.models import is_head

    settings: dict[str, Any] = dict(
        return_all=True,
        return_full_text=options.shape != "all",
        show_progress=False,
        **options.generation_settings(),
    )
    if options.engine != "transformers":
        settings |= dict(seed=options.seed, num_candidates=options.num_candidates, top_k=options.top_k or None)
        settings.pop("do_sample", None)
    if options.stop:
        settings |= dict(num_candidates=(options.num_candidates, options.max_candidates), stop=_stop_rule(options))
    if options.candidates_per_batch:
        settings["candidates_per_batch"] = options.candidates_per_batch
    has_own_numbers = bool(options.stop) or options.candidates_per_batch == "auto"
    if has_own_numbers and not options.prune_at and not options.resample_at:
        settings["seed"] = options.seed  # candidates then do not depend on --batch_size
    if options.vote:
        if options.answer_pattern:
            extract = _by_pattern(options.answer_pattern)
        else:
            extract = load_function(str(options.extract_answer), "--extract_answer", ("completion",))
        settings |= dict(vote=options.vote, extract_answer=extract)
    if options.second_reward_model:
        settings["combine"] = options.combine
    if options.prune_at:
        settings["prune"] = Pruning(
            tuple(options.prune_at), options.prune_keep, options.prune_max_gap, options.prune_min_reward
        )
    elif options.resample_at:
        settings["prune"] = Resampling(tuple(options.resample_at), options.resample_temperature)
    if "prune" in settings and not is_training_free(options.reward_model) and not is_head(str(options.reward_model)):
        given = "--prune_at" if options.prune_at else "--resample_at"
        raise ValueError(
            f"`{given}` must come with an ELHSR head or a training-free reward, got `--reward_model "
            f"{options.reward_model}`: other rewards cannot score unfinished candidates. Leave it out."
        )
    return settings


def _stop_rule(options: BonOptions) -> Any:
    from hf_reward_ext.best_of_n import BetaVotes, ExpectedImprovement

    if options.stop == "beta":
        return BetaVotes(options.stop_probability or 0.95)
    return options.stop if options.price_per_token is None else ExpectedImprovement(options.price_per_token)


def _by_pattern(pattern: str) -> Callable[[str], str | None]:
    expression = re.compile(pattern)

    def extract(text: str) -> str | None:
        found = list(expression.finditer(text))
        return found[-1].group(min(1, expression.groups)) if found else None

    return extract
