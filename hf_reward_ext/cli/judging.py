"""The work of `judge`."""

import math
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict
from typing import cast

from hf_reward_ext.cli.models import load_causal_lm, load_tokenizer, loading_settings, model_type, on_device
from hf_reward_ext.cli.rows import load_rows
from hf_reward_ext.cli.work import read_data, row_file, work_through
from hf_reward_ext.fast_slow import FastSlowRewardModel, Judgment

_PAIRS = [("prompt", "chosen", "rejected"), ("prompt", "response_a", "response_b")]


def judge_all(args: Namespace) -> dict:
    """Judges every row."""
    output, rows = row_file(args), _rows(args)
    held_out = load_rows(args.calibration_data, None, None, _PAIRS[0]) if args.calibration_data else None
    judge = _judge(args)
    if judge.judge_prompt.is_pairwise and not _is_pair(rows[0]):
        raise ValueError(
            f"Single responses were given, but the judge's verdicts {judge.config.verdicts} compare two. Give pairs, "
            "or a judge with pointwise verdicts such as Yes and No."
        )
    for number, row in enumerate(rows):
        if "chosen" in row:  # without both orders, the first place must not be the right one
            row["shown_first"] = "rejected" if number % 2 and not judge.config.both_orders else "chosen"
    if held_out is not None:
        goal = {"budget": args.budget} if args.budget is not None else {"risk": args.risk}
        report = judge.calibrate(held_out, **goal)
        print(f"Calibrated on {len(held_out)} pairs: {report['escalation_rate']:.1%} escalated.")

    def batch(some: list[dict]) -> list[dict]:
        second = [_second(row) for row in some] if _is_pair(some[0]) else None
        judgments = judge.judge(
            [row["prompt"] for row in some], [_first(row) for row in some], second, mode=args.mode, show_progress=False
        )
        return [_result(row, one) for row, one in zip(some, judgments, strict=True)]

    results = work_through(rows, batch, args, output, "judging")
    if not output:
        results = list(results)
        for row in results:
            print(f"{row['probability']:.3f} {row['mode']:4} {row['num_tokens']:4} tokens  {row['text']!r}")
    summary = _summarise(results)
    print("; ".join(f"{name} {value:.4g}" for name, value in summary.items()))
    if not output:
        return {"command": "judge", **summary, "rows": results}
    output.finish()
    return {"command": "judge", **summary, "output": args.output}


def _rows(args: Namespace) -> list[dict]:
    if args.data:
        rows = read_data(args, *_PAIRS, ("prompt", "response"))
        known = {"prompt", "chosen", "rejected", "response_a", "response_b", "response", "id"}
        return [{name: value for name, value in row.items() if name in known} for row in cast(Iterable[dict], rows)]
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
        judge.config.n_votes = args.votes
        judge.config.sampling_temperature = judge.config.sampling_temperature or 1.0  # votes that may differ
    if args.max_new_tokens:
        judge.config.max_new_tokens = args.max_new_tokens
    return on_device(judge, args)


def _is_pair(row: dict) -> bool:
    return "response" not in row


def _first(row: dict):
    if "chosen" in row:
        return row[row["shown_first"]]
    return row["response_a"] if "response_a" in row else row["response"]


def _second(row: dict):
    if "chosen" in row:
        return row["rejected" if row["shown_first"] == "chosen" else "chosen"]
    return row["response_b"]


def _result(row: dict, judgment: Judgment) -> dict:
    """The row with its judgment; numbers without a meaning are null."""
    fields = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(judgment).items()
    }
    if "chosen" in row:
        fields["correct"] = (judgment.score > 0) == (row["shown_first"] == "chosen")
    return {**row, **fields}


def _summarise(results: Iterable[dict]) -> dict[str, float]:
    """What the judgments have in common."""
    rows = [(row.get("correct"), row["mode"] == "slow", row["num_tokens"]) for row in results]
    summary = {
        "num_decisions": len(rows),
        "written": sum(slow for _, slow, _ in rows) / len(rows),
        "tokens_per_decision": sum(tokens for _, _, tokens in rows) / len(rows),
    }
    correct = [right for right, _, _ in rows if right is not None]
    return {"accuracy": sum(correct) / len(correct), **summary} if correct else summary
