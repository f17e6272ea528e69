"""Command `hf-reward-ext label-steps`: labels of the steps of responses, by rollouts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

from hf_reward_ext.base.options import Count, Number
from hf_reward_ext.cli.options import (
    DataOptions,
    LoadingOptions,
    OutputOptions,
    SamplingOptions,
    is_training_free,
    option,
)
from hf_reward_ext.cli.parser import OptionParser, command_parser

SHORT = "label the steps of responses by rollouts"
DESCRIPTION = """\
Samples continuations of a policy after each step of a response, and labels the step with the share of them that end
right (Math-Shepherd). Rows have the columns {prompt, completion}; `bon --as sft` writes such rows."""
EXAMPLES = (
    "--model outputs/policy --scorer my_checks:is_right --data responses.jsonl --output steps.jsonl",
    "--model Qwen/Qwen3-0.6B --scorer outputs/elhsr --threshold 0 --marks sentences --data rows.jsonl",
)


@dataclass
class StepOptions:
    """Policy, check and steps."""

    title: ClassVar[str] = "steps"
    model: str | None = option("policy that continues responses", metavar="NAME", kind="model", revision=True)
    scorer: str | None = option(
        "check of whole responses: MODULE:FUNCTION of (prompts, completions), a reward model by name or folder, or the "
        "address of a running `serve`",
        metavar="NAME",
        kind="scorer",
    )
    threshold: Annotated[float, Number()] = option("least reward of a right response", 0.5)
    marks: str = option(
        "regular expression of what ends a step, or sentences; default: two line breaks", "\n\n", metavar="REGEX"
    )
    num_rollouts: Annotated[int, Count(most=100_000)] = option("number of continuations of each prefix", 8)
    hard: bool = option("label 1 if any continuation is right, else 0", False)


@dataclass
class LabelStepsOptions(OutputOptions, LoadingOptions, SamplingOptions, DataOptions, StepOptions):
    """Options of `label-steps`."""

    def check(self) -> None:
        """Raise `ValueError` for options that are missing or exclude each other."""
        for name, what in (
            ("model", "the policy that continues responses"),
            ("scorer", "the check of whole responses"),
            ("data", "the responses to label"),
        ):
            if not getattr(self, name):
                raise ValueError(f"--{name} is missing: {what}")
        self.check_upload()
        if is_training_free(self.scorer):
            raise ValueError(f"--scorer checks whole responses, which {self.scorer} does not; give a function or model")
        if self.html:
            raise ValueError("--html shows candidates and judgments, not labels of steps; leave it out")
        if self.temperature == 0 and self.num_rollouts > 1:
            raise ValueError("--temperature 0 makes all rollouts the same; give a positive one")


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("label-steps", LabelStepsOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: LabelStepsOptions) -> dict:
    """Label, and write or print."""
    from hf_reward_ext.best_of_n.step_labels import read_responses
    from hf_reward_ext.cli.outputs import check_outputs, deliver, open_output
    from hf_reward_ext.cli.prompts import read_data
    from hf_reward_ext.cli.work import work_through

    check_outputs(options, "output")
    rows = [dict(row) for row in read_data(options, ("prompt", "completion"))]
    read_responses(rows, options.marks)  # refuses malformed rows before anything is loaded
    with open_output(options) as writer:
        results = list(work_through(rows, partial(_prepare, options), options, writer, "step labels"))
    labels = [label for row in results for label in row["labels"]]
    summary = {"num_rows": len(results), "num_steps": len(labels), "mean_label": sum(labels) / len(labels)}
    print(f"{len(results)} rows, {len(labels)} steps, mean label {summary['mean_label']:.3f}")
    return deliver("label-steps", options, results, summary)


def _prepare(options: LabelStepsOptions):
    from hf_reward_ext.best_of_n import label_steps
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.memory import check_memory
    from hf_reward_ext.cli.models import load_causal_lm, load_scorer, load_tokenizer, loading_settings, on_device
    from hf_reward_ext.engines import TransformersGenerator

    name, given = str(options.model), {"trust_remote_code": options.trust_remote_code}
    check_memory(options)
    with loading(name, "--model"):
        tokenizer = load_tokenizer(name, revision=options.revision, **given)
        policy = on_device(load_causal_lm(name, revision=options.revision, **loading_settings(options)), options)
    with loading(str(options.scorer), "--scorer"):
        scorer = load_scorer(str(options.scorer), "--scorer", options, options.batch_size)

    def batch(rows: list[dict]) -> list[dict]:
        return label_steps(
            TransformersGenerator(policy, tokenizer),
            rows,
            scorer,
            options.marks,
            num_rollouts=options.num_rollouts,
            sampling=_sampling(options),
            threshold=options.threshold,
            hard=options.hard,
            rows_per_part=options.batch_size,
            show_progress=False,
        )

    return batch


def _sampling(options: LabelStepsOptions) -> Any:
    from hf_reward_ext.engines import Sampling

    return Sampling(
        options.max_new_tokens,
        1.0 if options.temperature is None else options.temperature,
        options.top_p,
        options.top_k or None,
        options.seed,
    )
