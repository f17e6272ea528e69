"""The work of `judge`."""

import math
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict
from typing import cast

from datasets import Dataset

from hf_reward_ext.cli.models import load_causal_lm, load_tokenizer, loading_settings, model_type, on_device
from hf_reward_ext.cli.rows import load_rows
from hf_reward_ext.cli.work import Batch, open_output, read_data, report, work_through
from hf_reward_ext.fast_slow import FastSlowRewardModel, Judgment

_SUMMARIZED = ("correct", "mode", "num_tokens", "consistent", "parsed")
_PAIRS = [("prompt", "chosen", "rejected"), ("prompt", "response_a", "response_b")]


def judge_all(args: Namespace) -> dict:
    """Judges every row."""
    writer, rows = open_output(args), _rows(args)
    held_out = load_rows(args.calibration_data, None, None, _PAIRS[0]) if args.calibration_data else None
    results = list(work_through(rows, lambda: _prepare(args, rows, held_out), args, writer, "judging"))
    if not args.output:
        for row in results:
            print(f"{row['probability']:.3f} {row['mode']:4} {row['num_tokens']:4} tokens  {row['text']!r}")
    summary = _summarise(results)
    print("; ".join(f"{name} {value:.4g}" for name, value in summary.items()))
    return report("judge", args, results, summary)


def _prepare(args: Namespace, rows: list[dict], held_out: Dataset | None) -> Batch:
    judge = _judge(args)
    is_pair = "response" not in rows[0]
    if judge.judge_prompt.is_pairwise and not is_pair:
        raise ValueError(
            f"Single responses were given, but the judge's verdicts {judge.config.verdicts} compare two. Give pairs, "
            "or a judge with pointwise verdicts such as Yes and No."
        )
    if held_out is not None:
        goal = {"budget": args.budget} if args.budget is not None else {"risk": args.risk}
        found = judge.calibrate(held_out, **goal)
        print(f"Calibrated on {len(held_out)} pairs: {_calibrated(found)}.")

    def batch(some: list[dict]) -> list[dict]:
        shown = [_shown(row, judge.config.both_orders) for row in some]
        judgments = judge.judge(
            [row["prompt"] for row in some],
            [first for first, _ in shown],
            [second for _, second in shown] if is_pair else None,
            mode=args.mode,
            show_progress=False,
        )
        return [_result(row, first, one) for row, (first, _), one in zip(some, shown, judgments, strict=True)]

    return batch


def _rows(args: Namespace) -> list[dict]:
    if args.data:
        known = {"prompt", "chosen", "rejected", "response_a", "response_b", "response", "id"}
        rows = cast(Iterable[dict], read_data(args, *_PAIRS, ("prompt", "response")))
        return [
            {"number": number, **{name: value for name, value in row.items() if name in known}}
            for number, row in enumerate(rows)
        ]
    if len(args.responses) == 2:
        return [{"prompt": args.prompt, "response_a": args.responses[0], "response_b": args.responses[1]}]
    return [{"prompt": args.prompt, "response": response} for response in args.responses]


def _judge(args: Namespace) -> FastSlowRewardModel:
    kwargs = loading_settings(args)
    if model_type(args.model) == "fast_slow":
        judge = FastSlowRewardModel.from_pretrained(args.model, batch_size=args.batch_size, **kwargs)
    else:
        causal_lm = load_causal_lm(args.model, revision=args.revision, **kwargs)
        judge = FastSlowRewardModel(
            causal_lm, load_tokenizer(args.model), args.verdicts or ("A", "B"), batch_size=args.batch_size
        )
    if args.votes:
        judge.config.num_votes = args.votes
        judge.config.sampling_temperature = judge.config.sampling_temperature or 1.0  # votes that may differ
    if args.max_new_tokens:
        judge.config.max_new_tokens = args.max_new_tokens
    return on_device(judge, args)


def _shown(row: dict, both_orders: bool) -> tuple:
    """Both responses in the order in which they are shown; without both orders, the right one is not always first."""
    if "chosen" in row:
        pair = (row["chosen"], row["rejected"])
        return pair if both_orders or row["number"] % 2 == 0 else pair[::-1]
    return (row["response_a"], row["response_b"]) if "response_a" in row else (row["response"], None)


def _result(row: dict, first, judgment: Judgment) -> dict:
    """The row with its judgment; numbers without a meaning are null."""
    fields = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(judgment).items()
    }
    if "chosen" in row:
        fields["shown_first"] = "chosen" if first == row["chosen"] else "rejected"
        fields["correct"] = (judgment.score > 0) == (first == row["chosen"])
    return {**row, **fields}


def _calibrated(found: dict) -> str:
    lower, upper = found["fast_accuracy_interval"]
    parts = [
        f"{found['escalation_rate']:.1%} escalated",
        f"fast verdicts right in {found['fast_accuracy']:.3f} [{lower:.3f}, {upper:.3f}]",
        f"verdict mass {found['mass_mean']:.2g}",
    ]
    if "position_bias" in found:
        parts.append(f"both orders disagree in {found['position_bias']['disagreement']:.1%}")
    return "; ".join(parts)


def _summarise(results: Iterable[dict]) -> dict[str, float]:
    """What the judgments have in common."""
    rows = [{name: row.get(name) for name in _SUMMARIZED} for row in results]
    summary = {
        "num_decisions": len(rows),
        "written": sum(row["mode"] == "slow" for row in rows) / len(rows),
        "tokens_per_decision": sum(row["num_tokens"] for row in rows) / len(rows),
        "inconsistent": sum(not row["consistent"] for row in rows) / len(rows),
        "unparsed": sum(not row["parsed"] for row in rows) / len(rows),
    }
    correct = [row["correct"] for row in rows if row["correct"] is not None]
    return {"accuracy": sum(correct) / len(correct), **summary} if correct else summary
