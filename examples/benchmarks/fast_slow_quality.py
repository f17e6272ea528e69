"""
Demo judge on held-out problems: fast, gated and always slow.

    python -m hf_reward_ext.demo.train --seed 1 --output seed1   # and so on; or the demo policy for all seeds
    python examples/benchmarks/fast_slow_quality.py --policies seed0 seed1 seed2 --output quality
    python examples/benchmarks/fast_slow_quality.py --judges quality/judge0 quality/judge1 quality/judge2

Temperatures and thresholds are chosen on the development split and measured on the test split. Prints Markdown and
writes JSON. Intervals: 95 %, bootstrap over the problems of all seeds.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_reward_ext.base.stats.calibration import expected_calibration_error
from hf_reward_ext.demo.judge import pairs, train_judge
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.fast_slow import FastSlowRewardModel
from hf_reward_ext.fast_slow.calibrate.calibrate import alternating_pairs, rescored
from hf_reward_ext.fast_slow.calibrate.calibration import Outcomes, outcomes
from hf_reward_ext.fast_slow.calibrate.thresholds import best_within, escalated, thresholds_for_risk, tried_gates
from hf_reward_ext.fast_slow.judge.gate import Gate

WAYS = ("fast", "gated", "intuition alone", "distribution alone", "random gate", "slow")
KINDS = ("result", "number", "steps")


class Judged:
    """Raw judgments of both paths on pairs, for any temperatures."""

    def __init__(self, judge: FastSlowRewardModel, rows):
        columns, self.truth = alternating_pairs(rows)
        self.fast, self.slow = (judge.judge(*columns, mode=mode, show_progress=False) for mode in ("fast", "slow"))

    def outcomes(self, judge: FastSlowRewardModel) -> Outcomes:
        fast, slow = ([rescored(one, judge.score_calibration) for one in part] for part in (self.fast, self.slow))
        return outcomes(fast, self.truth, slow)

    def calibration_errors(self, judge: FastSlowRewardModel) -> dict[str, tuple[float, float]]:
        """Return the calibration errors of each path, before and after calibration."""
        scales = (replace(judge.score_calibration, temperature=1.0, slow_temperature=1.0), judge.score_calibration)
        return {
            name: tuple(
                expected_calibration_error(np.array([rescored(one, scale).probability for one in part]), self.truth)
                for scale in scales
            )
            for name, part in (("fast", self.fast), ("slow", self.slow))
        }


def only(data: Outcomes, confidence: str) -> Outcomes:
    """Return the gate with one confidence only; the other one never escalates."""
    other = "distribution" if confidence == "intuition" else "intuition"
    return replace(data, **{other: np.ones(len(data))})


def one_seed(judge: FastSlowRewardModel, num_dev: int, num_test: int, budget: float, seed: int) -> dict:
    """Return the correctness and the cost of each test pair for every path."""
    dev, test = pairs("dev", num_dev, seed), pairs("test", num_test, seed)
    calibration = judge.calibrate(dev, budget=budget, slow=True, show_progress=False)
    chosen_on, judged = Judged(judge, dev).outcomes(judge), Judged(judge, test)
    data = judged.outcomes(judge)
    chosen = {
        "fast": np.zeros(len(data), bool),
        "gated": escalated(judge.gate, data),
        "slow": np.ones(len(data), bool),
    }
    for name in ("intuition", "distribution"):
        gate = best_within(budget, tried_gates(judge.gate, only(chosen_on, name)))
        chosen[f"{name} alone"] = escalated(gate, only(data, name))
    right = {name: np.where(who, data.slow_right, data.fast_right) for name, who in chosen.items()}
    tokens = {name: np.where(who, data.slow_tokens, data.fast_tokens) for name, who in chosen.items()}
    rate = float(chosen["gated"].mean())
    right["random gate"] = (1 - rate) * data.fast_right + rate * data.slow_right
    tokens["random gate"] = (1 - rate) * data.fast_tokens + rate * data.slow_tokens
    kinds = np.array(test["error"])
    return {
        "right": right,
        "tokens": tokens,
        "rate": rate,
        "ece": judged.calibration_errors(judge),
        "by_error": {
            kind: {way: float(right[way][kinds == kind].mean()) for way in ("fast", "gated", "slow")} for kind in KINDS
        },
        "written_by_error": {kind: float(chosen["gated"][kinds == kind].mean()) for kind in KINDS},
        "separation": separation(data),
        "risk": risk_on_bootstraps(judge.gate, chosen_on, data),
        "calibration": calibration,
    }


def separation(data: Outcomes) -> dict[str, float]:
    """Return the AUC of each confidence for correct fast verdicts, and their rank correlation."""
    right, wrong = data.fast_right == 1, data.fast_right == 0

    def chance(values: np.ndarray) -> float:
        more = values[right][:, None] - values[wrong][None]
        return float((more > 0).mean() + (more == 0).mean() / 2)

    ranks = [values.argsort().argsort() for values in (data.intuition, data.distribution)]
    return {
        "intuition": chance(data.intuition),
        "distribution": chance(data.distribution),
        "rank correlation": float(np.corrcoef(*ranks)[0, 1]),
    }


def risk_on_bootstraps(
    gate: Gate, chosen_on: Outcomes, data: Outcomes, risk: float = 0.05, held_out: int = 500, splits: int = 200
) -> dict:
    """
    Return how often a certified gate exceeds its error rate.

    All judged pairs are the population. Held-out sets are drawn from it with replacement, and errors are measured on
    it.
    """
    names = ("intuition", "distribution", "fast_right", "fast_tokens")
    everyone = Outcomes(**{name: np.concatenate([getattr(one, name) for one in (chosen_on, data)]) for name in names})
    rng, broken, kept_shares = np.random.default_rng(0), 0, []
    for _ in range(splits):
        drawn = everyone.take(rng.integers(0, len(everyone), held_out))
        kept = ~escalated(thresholds_for_risk(gate, drawn, risk), everyone)
        kept_shares.append(float(kept.mean()))
        broken += bool(kept.any() and 1 - everyone.fast_right[kept].mean() > risk)
    return {"risk": risk, "splits": splits, "broken": broken / splits, "kept": float(np.mean(kept_shares))}


def ratio_interval(over: np.ndarray, under: np.ndarray, resamples: int = 2000) -> tuple[float, float, float]:
    """Return the ratio of two means over the same problems, with a bootstrap interval."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(over), (resamples, len(over)))
    ratios = over[rows].mean(1) / under[rows].mean(1)
    return float(over.mean() / under.mean()), *map(float, np.quantile(ratios, (0.025, 0.975)))


def print_gate(seeds: list[dict]) -> dict:
    right = {way: np.concatenate([one["right"][way] for one in seeds]) for way in WAYS}
    tokens = {way: np.concatenate([one["tokens"][way] for one in seeds]) for way in WAYS}
    print("| way | accuracy [95 %] | by seed | of always slow's accuracy | tokens a pair | of always slow's tokens |")
    print("|---|---:|---:|---:|---:|---:|")
    records = {}
    for way in WAYS:
        ratios = [ratio_interval(part[way], part["slow"]) for part in (right, tokens)]
        seed_values = [float(one["right"][way].mean()) for one in seeds]
        records[way] = {"accuracy": mean_with_interval(right[way]), "by_seed": seed_values, "ratios": ratios}
        shown = ["{:.3f} [{:.3f}, {:.3f}]".format(*ratio) for ratio in ratios]
        print(
            f"| {way} | {records[way]['accuracy']} | {' '.join(f'{value:.3f}' for value in seed_values)} | {shown[0]} "
            f"| {tokens[way].mean():.1f} | {shown[1]} |",
            flush=True,
        )
    print()
    for other in ("intuition alone", "distribution alone", "random gate"):
        print(f"gated minus {other}: {mean_with_interval(right['gated'] - right[other])}")
    for name in ("rate", "ece", "by_error", "written_by_error", "separation", "risk", "seconds"):
        print(f"{name}: {[one[name] for one in seeds]}")
    return {"ways": records, "seeds": [{**one, "right": None, "tokens": None} for one in seeds]}


def trained(folder: Path | None, args, seed: int) -> tuple[FastSlowRewardModel, float]:
    policy, tokenizer = load_policy(folder)
    started = time.process_time()
    judge = train_judge(policy, tokenizer, args.output / f"train{seed}", args.num_pairs, seed=seed)
    seconds = time.process_time() - started
    judge.save_pretrained(args.output / f"judge{seed}")
    return judge, round(seconds, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policies",
        nargs="+",
        type=Path,
        default=[None] * 3,
        help="folders of policies; default: the demo policy, 3 seeds",
    )
    parser.add_argument("--judges", nargs="+", type=Path, help="folders of trained judges, one per seed")
    parser.add_argument("--output", type=Path, default=Path("outputs/fast-slow-quality"))
    parser.add_argument("--num-pairs", type=int, default=14000, help="number of training pairs per round of stage 1")
    parser.add_argument("--num-dev", type=int, default=1000)
    parser.add_argument("--num-test", type=int, default=1000)
    parser.add_argument(
        "--budget", type=float, default=0.57, help="maximum share of the tokens of escalating all decisions"
    )
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    seeds = []
    for seed, folder in enumerate(args.judges or args.policies, start=args.first_seed):
        if args.judges:
            judge, seconds = FastSlowRewardModel.from_pretrained(folder, batch_size=128), None
        else:
            judge, seconds = trained(folder, args, seed)
        seeds.append({**one_seed(judge, args.num_dev, args.num_test, args.budget, seed), "seconds": seconds})
    (args.output / "quality.json").write_text(json.dumps(print_gate(seeds), indent=1) + "\n")


if __name__ == "__main__":
    main()
