"""Command `hf-reward-ext judge`: judgments of pairs or single responses."""

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from hf_reward_ext.base.options import SEED, Count, Number
from hf_reward_ext.cli.options import DataOptions, LoadingOptions, OutputOptions, option
from hf_reward_ext.cli.parser import OptionParser, command_parser

logger = logging.getLogger(__name__)
SHORT = "judge pairs or single responses with a Fast-Slow judge"
DESCRIPTION = """\
Judges pairs of responses, or single responses with pointwise verdicts: in one token if the judge is confident, with a
written judgment otherwise. Rows {prompt, chosen, rejected} also give its accuracy."""
EXAMPLES = (
    "--model outputs/judge --data outputs/data/judge --output outputs/judgments.jsonl",
    '--model outputs/judge --prompt "6 1 3 3=12|" --responses "6-1*3-3=12" "6+1*3-3=12"',
    "--model Qwen/Qwen3-4B --verdicts A B --data pairs.jsonl --calibration_data held_out.jsonl --budget 0.4",
)
_SUMMARIZED = ("correct", "mode", "num_tokens", "consistent", "parsed", "is_cut", "mass")
_PAIRS = [("prompt", "chosen", "rejected"), ("prompt", "response_a", "response_b")]
_READ = ("prompt", "chosen", "rejected", "response_a", "response_b", "response", "id")


@dataclass
class JudgeModelOptions:
    """Judge and gate."""

    title: ClassVar[str] = "judge"
    model: str | None = option(
        "judge trained by `train fast-slow`, or any causal LM", metavar="NAME", kind="model", revision=True
    )
    verdicts: list[str] | None = option("verdicts of a plain causal LM (default: A B)")
    mode: Literal["gated", "fast", "slow"] = option("path of the decisions", "gated")
    votes: Annotated[int | None, Count(most=1000)] = option("number of written judgments per escalated row")
    max_new_tokens: Annotated[int | None, Count()] = option("maximum number of tokens of a written judgment")
    seed: Annotated[int, SEED] = option("random seed of written judgments", 0)
    calibration_data: str | None = option(
        "held-out pairs {prompt, chosen, rejected}, or rows of --format, to calibrate the gate",
        metavar="NAME",
        kind="rows",
    )
    budget: Annotated[float | None, Number(least=0, most=1)] = option(
        "calibration: maximum share of escalated decisions, on --calibration_data"
    )
    risk: Annotated[float | None, Number(above=0, below=1)] = option("calibration: maximum error rate of fast verdicts")
    calibrate_written: bool = option(
        "calibration: write judgments of the held-out pairs too; --budget is then also a share of the tokens of "
        "judging all in writing",
        False,
    )


@dataclass
class PairOptions:
    """A decision on the command line."""

    title: ClassVar[str] = "one decision, instead of --data"
    prompt: str | None = option("the prompt", kind="input")
    responses: list[str] | None = option("two responses to compare; any number with pointwise verdicts", kind="input")


@dataclass
class JudgeDataOptions(DataOptions):
    """Rows, including those of benchmarks."""

    title: ClassVar[str] = "data"
    format: Literal["pairs", "rewardbench", "rm-bench", "judgebench", "llmbar"] = option(
        "columns of the rows: pairs {prompt, chosen, rejected}, {prompt, response_a, response_b} or {prompt, "
        "response}; or those of a benchmark",
        "pairs",
        kind="input",
    )


@dataclass
class JudgeOptions(OutputOptions, LoadingOptions, JudgeDataOptions, PairOptions, JudgeModelOptions):
    """Options of `judge`."""

    def check(self) -> None:
        """Raise `ValueError` for options that exclude each other."""
        if not self.model:
            raise ValueError("--model is missing: a judge or causal LM, by name or folder")
        if bool(self.prompt) == bool(self.data) or bool(self.prompt) != bool(self.responses):
            raise ValueError("responses are needed once: give --data, or --prompt with --responses")
        self.check_upload()
        goals = [self.budget is not None, self.risk is not None]
        if any(goals) != bool(self.calibration_data) or all(goals):
            raise ValueError("--calibration_data goes with one of --budget and --risk")
        if self.calibrate_written and not self.calibration_data:
            raise ValueError("--calibrate_written writes judgments of --calibration_data; give it, or leave it out")
        for name in ("votes", "max_new_tokens"):
            if self.mode == "fast" and getattr(self, name) is not None and not self.calibrate_written:
                raise ValueError(f"--{name} is about written judgments, and --mode fast writes none; leave it out")
        if self.verdicts and len(set(self.verdicts)) < 2:
            raise ValueError(f"--verdicts must be at least two different texts, got {self.verdicts}")


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("judge", JudgeOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: JudgeOptions) -> dict:
    """Judge, and write or print."""
    from hf_reward_ext.cli.outputs import check_outputs, deliver, open_output
    from hf_reward_ext.cli.work import work_through

    check_outputs(options, "output", "html")
    rows = _rows(options)
    held_out = _held_out(options)
    with open_output(options) as writer:
        results = list(work_through(rows, partial(_prepare, options, rows, held_out), options, writer, "judging"))
    if not options.output:
        for row in results:
            print(_describe(row))
    summary = _summarize(results)
    print("; ".join(f"{name} {value:.4g}" for name, value in summary.items()))
    if options.output:
        print(f"{len(results)} rows in {options.output}")
    if options.budget is not None and summary["written"] > options.budget:
        logger.info(
            "%.1f%% of the decisions were written: the thresholds keep the budget of %.1f%% on the calibration pairs.",
            100 * summary["written"],
            100 * options.budget,
        )
    if problems := _problems(summary):
        logger.warning("This judge may be unreliable: %s.", "; ".join(problems))
    return deliver("judge", options, results, summary)


def _prepare(options: JudgeOptions, rows: list[dict], held_out: Any):
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.memory import check_memory

    check_memory(options)
    with loading(str(options.model), "--model"):
        judge = _judge(options)
    is_pair = "response" not in rows[0]
    if judge.judge_prompt.is_pairwise and not is_pair:
        raise ValueError(
            f"The rows must have two responses for the judge's verdicts {judge.config.verdicts}, got single responses. "
            "Give pairs, or a judge with pointwise verdicts such as Yes and No."
        )
    judge.check(*_columns(rows, judge.config.both_orders), mode=options.mode)
    if held_out is not None:
        goal = {"budget": options.budget} if options.budget is not None else {"risk": options.risk}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This judge may be unreliable")  # printed below, without a place in code
            found = judge.calibrate(held_out, **goal, slow=options.calibrate_written)
        print(f"Calibrated on {len(held_out)} pairs: {_calibrated(found, judge.gate)}.")
        if found["problems"]:
            logger.warning("On the calibration pairs the judge may be unreliable: %s.", "; ".join(found["problems"]))

    def batch(some: list[dict]) -> list[dict]:
        prompts, first, second = _columns(some, judge.config.both_orders)
        judgments = judge.judge(prompts, first, second, mode=options.mode, show_progress=False)
        return [_result(row, shown, one) for row, shown, one in zip(some, first, judgments, strict=True)]

    return batch


def _rows(options: JudgeOptions) -> list[dict]:
    """Read and check the rows to judge; errors name the row."""
    if options.responses is not None and len(options.responses) == 2:
        rows = [{"prompt": options.prompt, "response_a": options.responses[0], "response_b": options.responses[1]}]
    elif options.responses is not None:
        rows = [{"prompt": options.prompt, "response": response} for response in options.responses]
    else:
        rows = _data_rows(options)
    return _checked(rows)


def _data_rows(options: JudgeOptions) -> list[dict]:
    from hf_reward_ext.cli.prompts import read_data

    if options.format == "pairs":
        rows: Any = read_data(options, *_PAIRS, ("prompt", "response"))
    else:
        rows = _benchmark_pairs(read_data(options), options.format)
    return [
        {"number": number, **{name: value for name, value in row.items() if name in _READ}}
        for number, row in enumerate(rows)
    ]


def _benchmark_pairs(rows: Any, format: str) -> list[dict]:
    """Return a pair for each chosen and rejected response of a benchmark."""
    from hf_reward_ext.evaluation.evaluate import read_benchmark

    return [
        {"prompt": row.prompt, "chosen": better, "rejected": worse, "id": row.name}
        for row in read_benchmark(rows, format)
        for better in row.chosen
        for worse in row.rejected
    ]


def _held_out(options: JudgeOptions) -> Any:
    """Return the pairs of `--calibration_data`, which may have the columns of `--format` too."""
    from hf_reward_ext.cli.rows import check_columns, load_rows

    if options.calibration_data is None:
        return None
    rows = load_rows(options.calibration_data, None, None)
    if options.format != "pairs" and not set(_PAIRS[0]) <= set(rows.column_names):
        pairs: Any = _benchmark_pairs(rows, options.format)
    else:
        check_columns(rows, options.calibration_data, _PAIRS[0])
        pairs = rows
    _check_pairs(pairs)
    return pairs


def _checked(rows: list[dict]) -> list[dict]:
    from hf_reward_ext.base.preference.validation import naming_row, read_completion, read_prompt

    for number, row in enumerate(rows):
        with naming_row(number, "judged"):
            row["prompt"] = read_prompt(row["prompt"])
            for name in set(row) & {"chosen", "rejected", "response_a", "response_b", "response"}:
                row[name] = read_completion(row[name], name, row["prompt"])
    return rows


def _check_pairs(rows: Iterable[dict]) -> None:
    from hf_reward_ext.base.preference.rows import check_pairs

    check_pairs(rows, "calibration")


def _judge(options: JudgeOptions) -> Any:
    from hf_reward_ext.cli.models import load_causal_lm, load_tokenizer, loading_settings, model_type, on_device
    from hf_reward_ext.fast_slow import FastSlowRewardModel

    name, kwargs = str(options.model), loading_settings(options)
    if model_type(name) == "fast_slow":
        if options.verdicts:
            raise ValueError(
                f"`--verdicts` must be left out for the judge {name!r}, which has its own. Pass a plain causal LM, or "
                "leave it out."
            )
        kwargs |= {"revision": options.revision} if options.revision else {}
        judge = FastSlowRewardModel.from_pretrained(name, batch_size=options.batch_size, **kwargs)
    else:
        tokenizer = load_tokenizer(name, revision=options.revision, trust_remote_code=options.trust_remote_code)
        causal_lm = load_causal_lm(name, revision=options.revision, **kwargs)
        judge = FastSlowRewardModel(causal_lm, tokenizer, options.verdicts or ("A", "B"), batch_size=options.batch_size)
    if options.votes:
        judge.config.num_votes = options.votes
        judge.config.sampling_temperature = judge.config.sampling_temperature or 1.0  # several votes need sampling
    if options.max_new_tokens:
        judge.config.max_new_tokens = options.max_new_tokens
    return on_device(judge, options)


def _columns(rows: list[dict], both_orders: bool) -> tuple[list, list, list | None]:
    """Return prompts, and responses in the order in which they are shown."""
    shown = [_shown(row, both_orders) for row in rows]
    second = None if "response" in rows[0] else [pair[1] for pair in shown]
    return [row["prompt"] for row in rows], [pair[0] for pair in shown], second


def _shown(row: dict, both_orders: bool) -> tuple:
    """Return both responses in the order in which they are shown, which alternates without both orders."""
    if "chosen" in row:
        pair = (row["chosen"], row["rejected"])
        return pair if both_orders or row["number"] % 2 == 0 else pair[::-1]
    return (row["response_a"], row["response_b"]) if "response_a" in row else (row["response"], None)


def _result(row: dict, first: Any, judgment: Any) -> dict:
    """Return the row with its judgment; undefined numbers are null."""
    fields = {
        name: None if isinstance(value, float) and value != value else value for name, value in asdict(judgment).items()
    }
    if "chosen" in row:
        fields["shown_first"] = "chosen" if first == row["chosen"] else "rejected"
        fields["correct"] = (judgment.score > 0) == (first == row["chosen"])
    return {**row, **fields}


def _describe(row: dict) -> str:
    """Describe a decision in a line, with the better response and its probability."""
    better = "the first" if row["probability"] > 0.5 else "the second"
    if "shown_first" in row:
        better = "chosen" if row["correct"] else "rejected"
    what = "" if "response" in row else f"  {better} is better"
    return f"{row['probability']:.3f} {row['mode']:4} {row['num_tokens']:4} tokens{what}  {row['text']!r}"


def _calibrated(found: dict, gate: Any) -> str:
    lower, upper = found["fast_accuracy_interval"]
    parts = [
        f"{found['escalation_rate']:.1%} escalated, at intuition below {gate.intuition_threshold:.3g} or distribution "
        f"below {gate.distribution_threshold:.3g}",
        f"fast verdicts right in {found['fast_accuracy']:.3f} [{lower:.3f}, {upper:.3f}]",
        f"verdict mass {found['mass_mean']:.2g}",
    ]
    if found["kept_accuracy"] is not None:
        parts.insert(2, f"those that stay fast in {found['kept_accuracy']:.3f}")
    if "position_bias" in found:
        parts.append(f"both orders disagree in {found['position_bias']['disagreement']:.1%}")
    if "token_share" in found:
        parts.append(
            f"written judgments right in {found['slow_accuracy']:.3f}, gated ones in {found['gated_accuracy']:.3f}, "
            f"with {found['token_share']:.1%} of the tokens"
        )
    return "; ".join(parts)


def _problems(summary: dict[str, float]) -> list[str]:
    """Return reasons, from its judgments, why the judge may be unreliable."""
    from hf_reward_ext.fast_slow.calibrate.quality import LEAST_MASS, MOST_DISAGREEMENT, MOST_UNPARSED

    problems = []
    if summary["mass"] < LEAST_MASS:
        problems.append(
            f"it puts {summary['mass']:.2g} of its probability on the verdicts; choose verdicts that it writes, or "
            "train it"
        )
    if summary["inconsistent"] > MOST_DISAGREEMENT:
        problems.append(
            f"the two orders of a pair prefer different responses in {summary['inconsistent']:.1%}; train it"
        )
    if summary["unparsed"] > MOST_UNPARSED:
        problems.append(
            f"{summary['unparsed']:.1%} of the written judgments have no verdict, {summary['cut']:.1%} were cut; raise "
            "--max_new_tokens, or train it"
        )
    return problems


def _summarize(results: Iterable[dict]) -> dict[str, float]:
    """Return summary values of the judgments."""
    rows: list[dict[str, Any]] = [{name: row.get(name) for name in _SUMMARIZED} for row in results]
    count, written = len(rows), [row for row in rows if row["mode"] == "slow"]
    summary: dict[str, float] = {
        "num_decisions": count,
        "written": len(written) / count,
        "tokens_per_decision": sum(row["num_tokens"] for row in rows) / count,
        "mass": sum(row["mass"] for row in rows) / count,
        "inconsistent": sum(not row["consistent"] for row in rows) / count,
        "unparsed": sum(not row["parsed"] for row in written) / max(1, len(written)),
        "cut": sum(bool(row["is_cut"]) for row in written) / max(1, len(written)),
    }
    right: Any = [row["correct"] for row in rows if row["correct"] is not None]
    if not right:
        return summary
    from hf_reward_ext.base.stats.intervals import share_with_interval

    accuracy = share_with_interval(right)
    return {
        "accuracy": accuracy.value,
        "accuracy_lower": accuracy.lower,
        "accuracy_upper": accuracy.upper,
        **summary,
    }
