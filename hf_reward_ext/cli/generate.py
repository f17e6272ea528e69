"""Command `hf-reward-ext generate`: generation with a policy alone, guided by GenARM, or with SLA's search."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

from hf_reward_ext.base.options import Count, Number
from hf_reward_ext.cli.options import (
    DataOptions,
    LoadingOptions,
    PromptOptions,
    SamplingOptions,
    TracedOutputOptions,
    is_training_free,
    option,
)
from hf_reward_ext.cli.parser import OptionParser, command_parser

SHORT = "generate text: guided by GenARM, with SLA's search, or plain"
DESCRIPTION = """\
Continues prompts with a policy: alone, guided by autoregressive reward models (--guide), or with streaming look-ahead
search on a reward channel (--channel)."""
EXAMPLES = (
    '--model hf_reward_ext/demo-policy --prompt "6 1 3 3=12|" --temperature 0',
    "--guide outputs/genarm --alpha 1.0 --data outputs/data/prompts.jsonl --output outputs/guided.jsonl",
    "--guide outputs/genarm --alpha_sweep 0 0.5 1 --data outputs/data/prompts.jsonl --max_rows 4",
    "--channel outputs/sla --width 2 --step 4 --depth 2 --data prompts.jsonl --output searched.jsonl",
)
MOST_LEAVES = 4096  # leaves of the search tree, each of which is a row of every forward


@dataclass
class ModelOptions:
    """Policy, guides and channel."""

    title: ClassVar[str] = "models"
    model: str | None = option(
        "policy; default: the base of the guide or channel", metavar="NAME", kind="model", revision=True
    )
    guide: list[str] | None = option("causal LMs or adapters trained by `train genarm`", metavar="NAME", kind="model")
    alpha: Annotated[list[float] | None, Number()] = option("weight of each guide (default: 1.0)")
    alpha_sweep: Annotated[list[float] | None, Number()] = option(
        "several weights to compare: a completion of every prompt with each, its divergence from the policy and reward"
    )
    reward_model: str | None = option(
        "reward of the completions of --alpha_sweep: a model, or MODULE:FUNCTION of (prompts, completions)",
        metavar="NAME",
        kind="scorer",
    )
    channel: str | None = option("reward channel trained by `train sla`", metavar="NAME", kind="model")


@dataclass
class SearchOptions:
    """Look-ahead search with a channel."""

    title: ClassVar[str] = "search, with --channel"
    width: Annotated[int, Count()] = option("branches", 2, needs="channel")
    step: Annotated[int, Count()] = option("number of tokens of a chunk", 10, needs="channel")
    depth: Annotated[int, Count(least=0)] = option("chunks ahead", 2, needs="channel")
    branch_entropy: Annotated[float | None, Number(least=0)] = option(
        "minimum entropy of the next token for a branch, in nats; default: branch everywhere", needs="channel"
    )


@dataclass
class GenerateSamplingOptions(SamplingOptions):
    """Sampling, and several sequences per prompt."""

    title: ClassVar[str] = "sampling"
    num_return_sequences: Annotated[int, Count(most=10_000)] = option("number of completions per prompt", 1)
    num_beams: Annotated[int, Count(most=1000)] = option("number of beams; 1 for no beam search", 1)


@dataclass
class GenerateOptions(
    TracedOutputOptions,
    LoadingOptions,
    GenerateSamplingOptions,
    DataOptions,
    PromptOptions,
    SearchOptions,
    ModelOptions,
):
    """Options of `generate`."""

    def check(self) -> None:
        """Raise `ValueError` for options that exclude each other."""
        self.check_prompts(self.data)
        self.check_upload()
        if self.guide and self.channel:
            raise ValueError("--guide and --channel exclude each other")
        if self.alpha and not self.guide:
            raise ValueError("--alpha weighs guides; give --guide, or leave it out")
        if self.alpha and len(self.alpha) not in (1, len(self.guide or [])):
            raise ValueError(
                f"--alpha has {len(self.alpha)} values for {len(self.guide or [])} guides; give one, or one for each"
            )
        if self.alpha_sweep:
            self._check_sweep()
        elif self.reward_model:
            raise ValueError("--reward_model scores the completions of --alpha_sweep; give weights, or leave it out")
        if self.traces and not (self.guide or self.channel):
            raise ValueError("--traces goes with --guide or --channel: the effect of guides, or the tree of the search")
        if not (self.model or self.guide or self.channel):
            raise ValueError("--model is missing: the policy by name or folder")
        if self.channel and (self.num_beams > 1 or self.num_return_sequences > 1 or self.temperature):
            raise ValueError("the search with --channel is deterministic; leave beams, sequences and temperature out")
        if 1 < self.num_beams < self.num_return_sequences:
            raise ValueError(f"--num_return_sequences must be at most --num_beams, got {self.num_return_sequences}")
        if self.num_return_sequences > 1 and self.num_beams == 1 and self.temperature == 0:
            raise ValueError("--temperature 0 makes all sequences the same; give a positive one, or --num_beams")
        leaves = self.width ** (self.depth + 1)
        if leaves > MOST_LEAVES:
            raise ValueError(
                f"--width {self.width} and --depth {self.depth} grow {leaves} leaves, each a row of every forward; at "
                f"most {MOST_LEAVES} are allowed: lower one"
            )

    def _check_sweep(self) -> None:
        """Raise `ValueError` for options that do not go with several weights."""
        if not self.guide or self.alpha:
            raise ValueError("--alpha_sweep gives the weight of every --guide; give --guide, and leave --alpha out")
        if len(set(self.alpha_sweep or ())) < 2:
            raise ValueError(f"--alpha_sweep must be two or more different weights, got {self.alpha_sweep}")
        if len(set(self.alpha_sweep or ())) < len(self.alpha_sweep or ()):
            raise ValueError(f"--alpha_sweep must be different weights, got {self.alpha_sweep}; remove the repetition")
        if self.num_return_sequences > 1:
            raise ValueError("--alpha_sweep writes one completion for each weight; leave --num_return_sequences out")
        if is_training_free(self.reward_model):
            raise ValueError(f"--reward_model {self.reward_model} reads a running generate; give a model or function")


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("generate", GenerateOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: GenerateOptions) -> dict:
    """Generate, and write or print the completions."""
    from hf_reward_ext.cli.outputs import check_outputs, deliver, open_output
    from hf_reward_ext.cli.prompts import read_prompts
    from hf_reward_ext.cli.work import work_through

    check_outputs(options, "output", "html")
    prompts = read_prompts(options)
    with open_output(options) as writer:
        results = list(work_through(prompts, partial(_prepare, options, prompts), options, writer, "generating"))
    summary: dict[str, Any] = {"num_rows": len(results)}
    if options.alpha_sweep:
        from hf_reward_ext.cli.alpha_sweep import describe, summarize

        summary = summarize(results)
        print("\n".join(describe(results, summary)))
    if options.output:
        print(f"{len(results)} rows in {options.output}")
    elif not options.alpha_sweep:
        for row in results:
            for text in row.get("completions") or [row["completion"]]:
                print(f"{row['prompt']}{text}" if isinstance(row["prompt"], str) else text)
    return deliver("generate", options, results, summary)


def _prepare(options: GenerateOptions, prompts: list[dict]):
    from hf_reward_ext.base.lm.context import longest_input
    from hf_reward_ext.cli.encoding import encode
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.memory import check_memory
    from hf_reward_ext.cli.models import base_model_name, load_tokenizer, set_template_variables
    from hf_reward_ext.cli.prompts import check_room, note_form
    from hf_reward_ext.sla import sla_generate

    name = options.model or base_model_name(options.channel or (options.guide or [""])[0])
    tokenizer = load_tokenizer(name, revision=options.revision, trust_remote_code=options.trust_remote_code)
    set_template_variables(tokenizer, options.template_variables())
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    settings = options.generation_settings()
    if options.channel:
        search: dict[str, Any] = dict(width=options.width, step=options.step, depth=options.depth)
        if options.branch_entropy is not None:
            search["branch_entropy"] = options.branch_entropy
        settings |= dict(custom_generate=sla_generate, do_sample=False, return_tree=options.has_traces, **search)
    else:
        settings |= dict(num_return_sequences=options.num_return_sequences, num_beams=options.num_beams)
    texts = [row["prompt"] for row in prompts]
    note_form(texts, tokenizer, options)
    lengths = [len(ids) for ids in encode(texts, tokenizer, padding=False)["input_ids"]]
    check_memory(options)
    with loading(name, "--guide" if options.guide else "--channel" if options.channel else "--model"):
        model = _model(options, name, tokenizer)
    check_room(lengths, longest_input(model), options.max_new_tokens)
    if options.alpha_sweep:
        from hf_reward_ext.cli.alpha_sweep import sweep_weights

        scorer = _scorer(options)
        return partial(sweep_weights, model, tokenizer, settings, options.alpha_sweep, scorer, options.has_traces)
    return partial(_continue, model, tokenizer, settings, bool(options.guide) and options.has_traces)


def _scorer(options: GenerateOptions) -> Any:
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.models import load_scorer

    if options.reward_model is None:
        return None
    with loading(options.reward_model, "--reward_model"):
        return load_scorer(options.reward_model, "--reward_model", options, options.batch_size)


def _continue(model: Any, tokenizer: Any, settings: dict[str, Any], is_traced: bool, rows: list[dict]) -> list[dict]:
    import torch

    from hf_reward_ext.base.lm.row_ends import watch_row_ends
    from hf_reward_ext.cli.encoding import encode
    from hf_reward_ext.cli.traces import flatten_tree, trace_guides

    inputs = encode([row["prompt"] for row in rows], tokenizer, return_tensors="pt").to(model.device)
    with torch.no_grad(), watch_row_ends(model) as ends:
        out = model.generate(**inputs, **settings)
    sequences, trees = getattr(out, "sequences", out), getattr(out, "trees", None)
    prompt_length = inputs["input_ids"].shape[1]
    texts = tokenizer.batch_decode(sequences[:, prompt_length:], skip_special_tokens=True)
    mask = ends.completion_mask(sequences, prompt_length)
    counts = mask.sum(-1).tolist()
    each = len(texts) // len(rows)
    made = [
        _row(row["prompt"], texts[at * each : (at + 1) * each], counts[at * each : (at + 1) * each])
        for at, row in enumerate(rows)
    ]
    if is_traced:
        traces = trace_guides(model, tokenizer, sequences, inputs["attention_mask"], mask, each)
        made = [{**row, "traces": own} for row, own in zip(made, traces, strict=True)]
    if trees is not None:
        made = [{**row, "tree": flatten_tree(tree, tokenizer)} for row, tree in zip(made, trees, strict=True)]
    return made


def _row(prompt: Any, texts: list[str], counts: list[int]) -> dict:
    if len(texts) == 1:
        return {"prompt": prompt, "completion": texts[0], "num_tokens": counts[0]}
    return {"prompt": prompt, "completions": texts, "num_tokens": counts}


def _model(options: GenerateOptions, name: str, tokenizer: Any) -> Any:
    from hf_reward_ext.base.saving.loading import check_finite, whole_adapter
    from hf_reward_ext.cli.models import (
        adapter_base,
        load_adapter,
        load_causal_lm,
        load_tokenizer,
        loading_settings,
        on_device,
    )
    from hf_reward_ext.genarm import GuidedCausalLM
    from hf_reward_ext.sla import RewardTransformer

    kwargs = loading_settings(options)
    policy = load_causal_lm(name, revision=options.revision, **kwargs)
    if options.channel:
        channel = RewardTransformer.from_pretrained(options.channel, base=policy, processing_class=tokenizer)
        return on_device(channel, options)
    if not options.guide:
        return on_device(policy, options)
    alpha = options.alpha or [1.0]
    alpha = alpha * len(options.guide) if len(alpha) == 1 else alpha
    if all(adapter_base(guide) == name for guide in options.guide):  # one copy of the weights, one forward
        names = [f"guide-{number}" for number in range(len(options.guide))]
        adapted = load_adapter(policy, options.guide[0], adapter_name=names[0])
        for adapter, folder in list(zip(names, options.guide, strict=True))[1:]:
            with whole_adapter(folder):
                adapted.load_adapter(folder, adapter)
        check_finite(", ".join(options.guide), adapted, "adapter_model.safetensors")
        return on_device(GuidedCausalLM.from_peft(adapted, names, alpha), options)
    guides = [load_causal_lm(guide, **kwargs) for guide in options.guide]
    tokenizers = [load_tokenizer(guide, trust_remote_code=options.trust_remote_code) for guide in options.guide]
    return on_device(GuidedCausalLM(policy, guides, alpha, tokenizer=tokenizer, guide_tokenizers=tokenizers), options)
