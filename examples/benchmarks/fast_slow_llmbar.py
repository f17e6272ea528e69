"""
Gate on recorded verdicts of judges on LLMBar: reasoning only if the fast answer depends on the order.

    python examples/benchmarks/fast_slow_llmbar.py llmbar.jsonl.gz

Each record has the verdicts of a judge without reasoning (Vanilla) and after reasoning (Swap_CoT, else CoT), in both
orders. Recorded verdicts have no probabilities: intuition is 1 if both orders agree, and 0 otherwise. A pair whose
orders disagree counts as half correct. A missing verdict is a tie. "Calibrated" chooses the gate on one half of the
pairs, for at most `--budget` reasoned calls, and measures on the other half; the halves are then exchanged.
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch

from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.fast_slow.calibrate.calibration import Outcomes
from hf_reward_ext.fast_slow.calibrate.thresholds import escalated, thresholds_for_budget
from hf_reward_ext.fast_slow.judge.confidence import orders_agree
from hf_reward_ext.fast_slow.judge.gate import Gate

REASONED = ("Swap_CoT", "CoT")


def margins(records: list[dict], judge: str) -> np.ndarray:
    """Return 1 for the first output, -1 for the second and 0 for none, with a column for each order."""
    sign = {"1": 1.0, "2": -1.0}
    return np.array(
        [
            [sign.get(str(record["judges"][judge][key]), 0.0) for key in ("winner", "winner_swapped")]
            for record in records
        ]
    )


def right(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    both = found.sum(1)
    return np.where(both == 0, 0.5, (both > 0) == truth)


def recorded_outcomes(records: list[dict], cheap: str, reasoned: str) -> Outcomes:
    truth = np.array([record["label"] == 1 for record in records])
    quick, slow = margins(records, cheap), margins(records, reasoned)
    # Both columns use the same numbering, but `orders_agree` needs the margin of the response shown first.
    first, swapped = torch.tensor(quick[:, 0]), torch.tensor(-quick[:, 1])
    agree = (orders_agree(first, swapped) & (first != 0) & (swapped != 0)).numpy().astype(float)
    count = len(records)
    return Outcomes(agree, np.ones(count), right(quick, truth), np.zeros(count), right(slow, truth), np.ones(count))


def calibrated(data: Outcomes, budget: float, seed: int = 0) -> np.ndarray:
    """Return which pairs a gate escalates that was calibrated on the other half."""
    first = np.random.default_rng(seed).permutation(len(data)) < len(data) // 2
    chosen = np.zeros(len(data), bool)
    for half in (first, ~first):
        gate = thresholds_for_budget(Gate(), data.take(~half), budget)
        chosen[half] = escalated(gate, data.take(half))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--budget", type=float, default=0.4)
    args = parser.parse_args()
    with gzip.open(args.file, "rt") as lines:
        everything = [json.loads(line) for line in lines]
    gate = Gate(intuition_threshold=0.5, distribution_threshold=0.0)
    print(
        "| judge | always quick | gated on contradictions | reasoned calls | random gate | calibrated | reasoned calls "
        "| always reasoned |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for family in dict.fromkeys(name.split("/")[0] for record in everything for name in record["judges"]):
        reasoned = next(
            (f"{family}/{kind}" for kind in REASONED if f"{family}/{kind}" in everything[0]["judges"]), None
        )
        if reasoned is None:
            continue
        cheap = f"{family}/Vanilla"
        records = [one for one in everything if {cheap, reasoned} <= set(one["judges"])]
        data = recorded_outcomes(records, cheap, reasoned)
        chosen = escalated(gate, data)
        tuned = calibrated(data, args.budget)
        rate = chosen.mean()
        cells = (
            mean_with_interval(data.fast_right),
            mean_with_interval(np.where(chosen, data.slow_right, data.fast_right)),
            f"{rate:.3f}",
            mean_with_interval((1 - rate) * data.fast_right + rate * data.slow_right),
            mean_with_interval(np.where(tuned, data.slow_right, data.fast_right)),
            f"{tuned.mean():.3f}",
            mean_with_interval(data.slow_right),
        )
        print(f"| {reasoned}, {len(records)} pairs | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
