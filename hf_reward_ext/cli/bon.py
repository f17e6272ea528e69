"""Command `hf-reward-ext bon`: best of N by any reward."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from hf_reward_ext.base.options import Count, Number
from hf_reward_ext.cli.options import (
    DataOptions,
    LoadingOptions,
    OutputOptions,
    PromptOptions,
    SamplingOptions,
    is_function,
    is_training_free,
    is_url,
    option,
)
from hf_reward_ext.cli.parser import command_parser

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


@dataclass
class ModelOptions:
    """Policy and rewards."""

    title: ClassVar[str] = "models"
    reward_model: str | None = option(
        "ELHSR head or any reward model, by name or folder; MODULE:FUNCTION of (prompts, completions); the address of "
        "a running `serve`; or a training-free reward: confidence, mean_log_probability, self_certainty, "
        "negative_entropy, length",
        metavar="NAME",
        kind="scorer",
    )
    second_reward_model: str | None = option("text reward to combine with the first", metavar="NAME", kind="scorer")
    combine: Literal["min_max", "max_rank"] = option("combination of both", "min_max")
    model: str | None = option(
        "policy; default: the base of the head or channel", metavar="NAME", kind="model", revision=True
    )


@dataclass
class EngineOptions:
    """Engine that writes the candidates."""

    title: ClassVar[str] = "engine"
    engine: str = option(
        "transformers, continuous_batching (generate_batch), or the address of a server with the OpenAI-compatible "
        "API, such as http://127.0.0.1:8000/v1",
        "transformers",
        metavar="NAME",
        kind="engine",
    )
    served_model: str | None = option("name of the policy on the server", metavar="NAME")
    concurrency: Annotated[int | None, Count()] = option(
        "maximum number of requests to the server at a time; default: 16", kind="output"
    )
    request_timeout: Annotated[float | None, Number(above=0)] = option(
        "maximum number of seconds without a byte of an answer; default: 600", kind="output"
    )

    def check_engine(self, model: str | None) -> None:
        """Raise `ValueError` for an unknown engine, and options that do not go with it."""
        if is_url(self.engine):
            if not self.served_model:
                raise ValueError("--served_model is missing: the name under which the server lists its model")
            if model:
                raise ValueError("--model is a policy in this process; with a server give --served_model alone")
            return
        if self.engine not in ("transformers", "continuous_batching"):
            raise ValueError(
                f"--engine is transformers, continuous_batching, or an address that begins with http, not "
                f"{self.engine!r}"
            )
        for name in ("served_model", "concurrency", "request_timeout"):
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} goes with the address of a server as --engine")


@dataclass
class CandidateOptions:
    """Candidates of a prompt, and their ranking."""

    title: ClassVar[str] = "candidates"
    num_candidates: Annotated[int, Count(most=100_000)] = option("number of candidates per prompt", 16)
    max_candidates: Annotated[int | None, Count(most=100_000)] = option(
        "maximum number of candidates per prompt, with --stop; --num_candidates is then the minimum"
    )
    stop: Literal["beta", "expected_improvement"] | None = option(
        "rule that ends the sampling of candidates for each prompt: when the vote is decided, or when another "
        "candidate is not worth its tokens"
    )
    stop_probability: Annotated[float | None, Number(above=0, below=1)] = option(
        "probability that the leading answer wins, with --stop beta; default: 0.95"
    )
    price_per_token: Annotated[float | None, Number(least=0)] = option(
        "cost of a token in units of the reward, with --stop expected_improvement; default: 1e-4 of a calibrated "
        "head's probability"
    )
    candidates_per_batch: Annotated[int | None, Count()] = option("maximum number of candidates at a time")
    vote: Literal["majority", "weighted"] | None = option("vote over answers, which ranks the winning answer first")
    answer_pattern: str | None = option("pattern whose last match in a completion is its answer", metavar="REGEX")
    extract_answer: str | None = option(
        "function from a completion to its answer, or None", metavar="MODULE:FUNCTION", kind="function"
    )
    label: str | None = option(
        "function from prompt and completion to right or wrong", metavar="MODULE:FUNCTION", kind="function"
    )
    prune_at: Annotated[list[int] | None, Count()] = option("completion lengths at which weak candidates are dropped")
    prune_keep: Annotated[float, Number(above=0, most=1)] = option("share of candidates to keep", 0.5)
    prune_max_gap: Annotated[float | None, Number(least=0)] = option("maximum distance from the best candidate")
    prune_min_reward: Annotated[float | None, Number()] = option("least reward that stays")
    resample_at: Annotated[list[int] | None, Count()] = option(
        "lengths at which weak candidates are replaced by copies of better ones"
    )
    resample_temperature: Annotated[float, Number(above=0)] = option("temperature of the rewards there", 1.0)
    confidence_window: Annotated[int | None, Count()] = option(
        "tokens of a group, with --reward_model confidence; default: 2048"
    )


@dataclass
class ShapeOptions:
    """Rows of the file."""

    title: ClassVar[str] = "shape of the rows"
    shape: Literal["all", "preference", "sft"] = option(
        "all {prompt, completions, rewards, num_tokens, ...}, preference {prompt, chosen, rejected, margin}, or sft "
        "{prompt, completion, score}",
        "all",
        option="as",
    )
    rejected: Literal["worst", "random"] = option("rejected candidate of preference rows", "worst")
    min_margin: Annotated[float, Number(least=0)] = option("margin that preference rows must exceed", 0.0)
    keep: Annotated[int, Count()] = option("number of sft rows per prompt", 1)
    min_score: Annotated[float | None, Number()] = option("minimum score of sft rows")


@dataclass
class BonOptions(
    ShapeOptions,
    OutputOptions,
    LoadingOptions,
    SamplingOptions,
    CandidateOptions,
    DataOptions,
    PromptOptions,
    EngineOptions,
    ModelOptions,
):
    """Options of `bon`."""

    def check(self) -> None:
        """Raise `ValueError` for options that exclude each other."""
        self.check_prompts(self.data)
        if not self.reward_model:
            raise ValueError("--reward_model is missing: the reward that ranks candidates")
        self.check_engine(self.model)
        if self.engine != "transformers":
            self._check_finished_candidates()
        names_no_policy = any(one(self.reward_model) for one in (is_function, is_training_free, is_url))
        if names_no_policy and not self.model and not is_url(self.engine):
            what = "a training-free reward" if is_training_free(self.reward_model) else "a function or server"
            raise ValueError(f"--model is missing: {what} as --reward_model does not name the policy to sample from")
        if self.confidence_window and self.reward_model != "confidence":
            raise ValueError("--confidence_window goes with --reward_model confidence")
        if bool(self.stop) != bool(self.max_candidates):
            raise ValueError("--stop and --max_candidates go together: the rule, and where it ends at the latest")
        if self.max_candidates and self.max_candidates < self.num_candidates:
            raise ValueError("--max_candidates is lower than --num_candidates, the least; swap them")
        if self.stop == "beta" and not self.vote:
            raise ValueError("--stop beta counts votes; give --vote")
        if self.stop_probability and self.stop != "beta":
            raise ValueError("--stop_probability goes with --stop beta")
        if self.price_per_token is not None and self.stop != "expected_improvement":
            raise ValueError("--price_per_token goes with --stop expected_improvement")
        if self.temperature == 0 and max(self.num_candidates, self.max_candidates or 1) > 1:
            raise ValueError("--temperature 0 makes all candidates the same; give a positive one")
        if self.answer_pattern and self.extract_answer:
            raise ValueError("--answer_pattern and --extract_answer exclude each other")
        if self.vote and not (self.answer_pattern or self.extract_answer):
            raise ValueError("--vote counts answers; give --answer_pattern or --extract_answer")
        if self.label and self.shape != "all":
            raise ValueError("--label writes labels of all candidates; it goes with --as all")
        if self.shape != "all" and not self.output:
            raise ValueError(f"--as {self.shape} shapes the file; give --output")
        if self.prune_at and self.resample_at:
            raise ValueError("--prune_at and --resample_at exclude each other")
        if (self.prune_at or self.resample_at) and self.candidates_per_batch:
            given = "--prune_at" if self.prune_at else "--resample_at"
            raise ValueError(f"{given} compares all candidates of a prompt; leave --candidates_per_batch out")
        try:
            re.compile(self.answer_pattern or "")
        except re.error as error:
            raise ValueError(f"--answer_pattern {self.answer_pattern!r} is no regular expression: {error}") from error

    def _check_finished_candidates(self) -> None:
        """Raise `ValueError` for options that need a running `generate`."""
        for name in ("prune_at", "resample_at"):
            if getattr(self, name):
                raise ValueError(f"--{name} goes with --engine transformers; other engines return finished candidates")
        for name in (self.reward_model, self.second_reward_model):
            if is_training_free(name) and name not in ("mean_log_probability", "length"):
                raise ValueError(f"{name} reads all probabilities; it goes with --engine transformers")
        if is_training_free(self.second_reward_model):
            raise ValueError(f"{self.second_reward_model} as --second_reward_model goes with --engine transformers")
        if self.stop == "expected_improvement" and self.price_per_token is None:
            raise ValueError("--stop expected_improvement needs --price_per_token with this engine")


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return command_parser("bon", BonOptions, DESCRIPTION, EXAMPLES).parse_command(arguments)


def run(options: BonOptions) -> dict:
    """Sample, rank, and write or print."""
    from hf_reward_ext.cli.work import check_outputs, open_output, read_prompts, report, work_through

    check_outputs(options, "output")
    prompts = read_prompts(options)
    shape, settings = _shape(options), _settings(options)
    with open_output(options) as writer:
        results = work_through(
            prompts, partial(_prepare, options, prompts, shape, settings), options, writer, "best of N"
        )
        results = list(results)
    summary = {"num_rows": len(results), **(_summarize(results) if options.shape == "all" else {})}
    if options.output:
        print(f"{len(results)} rows in {options.output}")
    else:
        for row in results:
            print(_describe(row))
    return report("bon", options, results, summary)


def _prepare(options: BonOptions, prompts: list[dict], shape: Callable, settings: dict[str, Any]):
    from hf_reward_ext.base.preference.chat import render_chat
    from hf_reward_ext.cli.engines import load_engine
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.work import check_room, note_form

    with loading(str(options.reward_model), "--reward_model"):
        pipe = _pipeline(options) if options.engine == "transformers" else load_engine(options)
    policy: Any = pipe if options.engine == "transformers" else pipe.generator
    if not is_url(options.engine):  # a server has the tokenizer, and refuses long prompts
        note_form([row["prompt"] for row in prompts], policy.tokenizer, options)
        tokenizer, texts = policy.tokenizer, (row["prompt"] for row in prompts)
        lengths = (
            len(tokenizer(text)["input_ids"] if isinstance(text, str) else render_chat(text, tokenizer, True))
            for text in texts
        )
        check_room(lengths, policy.model, options.max_new_tokens)
    if options.engine == "transformers":
        settings["batch_size"] = options.batch_size

    def batch(rows: list[dict]) -> list[dict]:
        groups = pipe([row["prompt"] for row in rows], **settings)
        return [made for row, group in zip(rows, groups, strict=True) for made in shape(row["prompt"], group)]

    return batch


def _pipeline(options: BonOptions) -> Any:
    from hf_reward_ext.best_of_n import BestOfNPipeline
    from hf_reward_ext.cli.models import (
        base_model_name,
        is_head,
        load_causal_lm,
        load_scorer,
        load_tokenizer,
        loading_settings,
        on_device,
    )
    from hf_reward_ext.confidence import GroupConfidence, LogitsRewardModel
    from hf_reward_ext.elhsr import ELHSRModel

    reward_model = str(options.reward_model)
    name = options.model or base_model_name(reward_model)
    given = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
    tokenizer = load_tokenizer(name, **given)
    if is_head(reward_model):
        reward: Any = ELHSRModel.from_pretrained(reward_model)
    elif is_training_free(reward_model):
        window = options.confidence_window
        reward = GroupConfidence(window=window) if window else reward_model
    else:
        reward = load_scorer(reward_model, "--reward_model", options, options.batch_size)
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
    from hf_reward_ext.cli.models import load_function

    if options.shape == "preference":
        return partial(preference_rows, rejected=options.rejected, min_margin=options.min_margin, seed=options.seed)
    if options.shape == "sft":
        return partial(sft_rows, keep=options.keep, min_score=options.min_score)
    label = load_function(options.label, "--label", ("prompt", "completion")) if options.label else None
    return partial(_record, label=label, has_pruning=bool(options.prune_at))


def _settings(options: BonOptions) -> dict[str, Any]:
    """Return the arguments of the pipeline's call, checked before a model is loaded."""
    from hf_reward_ext.best_of_n import Pruning, Resampling
    from hf_reward_ext.cli.models import is_head, load_function

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
        if not options.prune_at and not options.resample_at:
            settings["seed"] = options.seed  # candidates then do not depend on --batch_size
    if options.candidates_per_batch:
        settings["candidates_per_batch"] = options.candidates_per_batch
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


def _record(prompt: Any, group: list[dict], label: Callable | None, has_pruning: bool) -> list[dict]:
    """Return the candidates of a prompt, best first."""
    record = {
        "prompt": prompt,
        "completions": [one["generated_text"] for one in group],
        "rewards": [one["score"] for one in group],
        "num_tokens": [one["num_tokens"] for one in group],
    }
    for name, column in (("answer", "answers"), ("probability", "probabilities")):
        if name in group[0]:
            record[column] = [one[name] for one in group]
    if "stop_reason" in group[0]:
        record["stop_reason"] = group[0]["stop_reason"]
    if has_pruning:
        record["pruned"] = [one["pruned"] for one in group]
    if label is not None:
        record["labels"] = [float(label(prompt, text)) for text in record["completions"]]
    return [record]


def _describe(row: dict) -> str:
    """Describe the best candidate of a prompt, with its reward and the mean reward."""
    rewards = [reward for reward in row["rewards"] if reward is not None]
    prompt = row["prompt"] if isinstance(row["prompt"], str) else f"{row['prompt'][-1]['content']} -> "
    among = f"  [best of {len(row['rewards'])}; mean {sum(rewards) / len(rewards):.3f}]" if len(rewards) > 1 else ""
    return f"{row['rewards'][0]:8.3f}  {prompt}{row['completions'][0]}{among}"


def _summarize(records: Sequence[dict]) -> dict[str, float]:
    """Return means over prompts of the reward and label of the best candidate and of all candidates."""
    best, mean, right, any_right, mean_right = [], [], [], [], []
    for record in records:
        rewards = [reward for reward in record["rewards"] if reward is not None]
        best.append(record["rewards"][0])
        mean.append(sum(rewards) / len(rewards))
        if "labels" in record:
            right.append(record["labels"][0])
            any_right.append(max(record["labels"]))
            mean_right.append(sum(record["labels"]) / len(record["labels"]))
    columns = {"best_reward": best, "mean_reward": mean}
    if any("stop_reason" in record for record in records):
        columns["mean_num_drawn"] = [len(record["rewards"]) for record in records]
    if right:
        columns |= {"best_label": right, "mean_label": mean_right, "any_label": any_right}
    return {name: sum(values) / len(values) for name, values in columns.items()}
