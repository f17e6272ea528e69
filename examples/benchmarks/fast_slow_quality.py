"""
The demo judge at every level of thinking, on held-out problems: fast, gated, always slow; what stage 2 adds.

    python -m hf_reward_ext.demo.train --seed 1 --output seed1   # and so on; or the shipped policy for all seeds
    python examples/benchmarks/fast_slow_quality.py --policies seed0 seed1 seed2 --output quality
    python examples/benchmarks/fast_slow_quality.py --stage-two --num-pairs 8000 --output quality2

Thresholds are chosen on the development split and measured on the test split. Prints Markdown and writes JSON.
Intervals: bootstrap over the problems of all seeds.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from trl import GRPOConfig

from hf_reward_ext.demo.judge import MAX_NEW_TOKENS, pair_accuracy, pairs, train_judge
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.fast_slow import FastSlowGRPOTrainer, FastSlowRewardModel, counterfactual_prefixes
from hf_reward_ext.fast_slow.calibrate import alternating_pairs, rescored
from hf_reward_ext.fast_slow.calibration import Outcomes, expected_calibration_error, outcomes
from hf_reward_ext.fast_slow.thresholds import best_within, escalated, thresholds_for_risk, tried_gates

WAYS = ("fast", "gated", "intuition alone", "distribution alone", "random gate", "slow")


def judged(judge, rows):
    """Fast and written judgments at the judge's temperatures, their truth and outcomes."""
    columns, truth = alternating_pairs(rows)
    found = [judge.judge(*columns, mode=mode, show_progress=False) for mode in ("fast", "slow")]
    fast, slow = ([rescored(one, judge.scale) for one in judgments] for judgments in found)
    return fast, truth, outcomes(fast, truth, slow)


def only(data: Outcomes, confidence: str) -> Outcomes:
    other = "distribution" if confidence == "intuition" else "intuition"
    return replace(data, **{other: np.ones(len(data))})


def one_seed(judge, num_dev: int, num_test: int, budget: float, seed: int) -> dict:
    """Whether each test pair is judged right, and what it costs, by every way."""
    dev, test = pairs("dev", num_dev, seed), pairs("test", num_test, seed)
    plain, truth, _ = judged(judge, test)
    before = expected_calibration_error(np.array([one.probability for one in plain]), truth)
    calibration = judge.calibrate(dev, budget=budget, slow=True, show_progress=False)
    _, _, chosen_on = judged(judge, dev)
    fast, truth, data = judged(judge, test)
    after = expected_calibration_error(np.array([one.probability for one in fast]), truth)
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
    rate = chosen["gated"].mean()
    right["random gate"] = (1 - rate) * data.fast_right + rate * data.slow_right
    tokens["random gate"] = (1 - rate) * data.fast_tokens + rate * data.slow_tokens
    by_error = {
        kind: {way: float(right[way][np.array(test["error"]) == kind].mean()) for way in ("fast", "gated", "slow")}
        for kind in ("result", "number", "steps")
    }
    return {
        "right": right,
        "tokens": tokens,
        "rate": float(rate),
        "ece": (before, after),
        "by_error": by_error,
        "calibration": calibration,
        "risk": risk_on_splits(judge.gate, chosen_on, data),
    }


def risk_on_splits(gate, chosen_on: Outcomes, data: Outcomes, risk: float = 0.05, splits: int = 200) -> dict:
    """How often the certified gate errs more than it promised on the other half of a bootstrap split."""
    arrays = {
        name: np.concatenate([getattr(chosen_on, name), getattr(data, name)])
        for name in ("intuition", "distribution", "fast_right", "fast_tokens")
    }
    everyone, rng = Outcomes(**arrays), np.random.default_rng(0)
    broken, kept_shares = 0, []
    for _ in range(splits):
        order = rng.permutation(len(everyone))
        half = len(order) // 2
        certified = thresholds_for_risk(gate, everyone.take(order[:half]), risk)
        rest = everyone.take(order[half:])
        kept = ~escalated(certified, rest)
        kept_shares.append(float(kept.mean()))
        broken += bool(kept.any() and 1 - rest.fast_right[kept].mean() > risk)
    return {"risk": risk, "splits": splits, "broken": broken, "kept": float(np.mean(kept_shares))}


def ratio_interval(over: np.ndarray, under: np.ndarray, resamples: int = 2000) -> tuple[float, float, float]:
    """Ratio of two means over the same problems, with a bootstrap interval."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(over), (resamples, len(over)))
    ratios = over[rows].mean(1) / under[rows].mean(1)
    return float(over.mean() / under.mean()), *map(float, np.quantile(ratios, (0.025, 0.975)))


def print_gate(seeds: list[dict]) -> dict:
    right = {way: np.concatenate([one["right"][way] for one in seeds]) for way in WAYS}
    tokens = {way: np.concatenate([one["tokens"][way] for one in seeds]) for way in WAYS}
    print("| way | accuracy [95 %] | by seed | tokens a pair | of always slow |")
    print("|---|---:|---:|---:|---:|")
    records = {}
    for way in WAYS:
        share = float(tokens[way].sum() / tokens["slow"].sum())
        accuracy = mean_with_interval(right[way])
        seed_values = [float(one["right"][way].mean()) for one in seeds]
        shown = " ".join(f"{value:.3f}" for value in seed_values)
        print(f"| {way} | {accuracy} | {shown} | {tokens[way].mean():.1f} | {share:.3f} |", flush=True)
        records[way] = {"accuracy": accuracy, "by_seed": seed_values, "share": share}
    ratio = ratio_interval(right["gated"], right["slow"])
    print(f"\ngated over always slow: {ratio[0]:.4f} [{ratio[1]:.4f}, {ratio[2]:.4f}]")
    for other in ("intuition alone", "distribution alone", "random gate"):
        print(f"gated minus {other}: {mean_with_interval(right['gated'] - right[other])}")
    for name in ("rate", "ece", "by_error", "risk", "seconds"):
        print(f"{name}: {[one[name] for one in seeds]}")
    return {"ways": records, "ratio": ratio, "seeds": [{**one, "right": None, "tokens": None} for one in seeds]}


def stage_two(judge, folder: Path, steps: int, seed: int) -> tuple[float, dict]:
    """GRPO on written judgements with TRL's trainer, in place."""
    args = GRPOConfig(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=MAX_NEW_TOKENS,
        learning_rate=3e-4,
        beta=0.0,
        temperature=1.0,
        report_to="none",
        save_strategy="no",
        logging_steps=max(1, steps // 10),
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        seed=seed,
    )
    rows = counterfactual_prefixes(pairs("train", 4000, seed + 100), judge.judge_prompt)
    trainer = FastSlowGRPOTrainer(judge.causal_lm, args, rows, judge_prompt=judge.judge_prompt, fast_weight=0.1)
    started = time.perf_counter()
    trainer.train()
    judge.eval()
    logged = [row["rewards/slow_verdict_reward/mean"] for row in trainer.state.log_history if "reward" in row]
    return time.perf_counter() - started, {"reward": logged}


def trained(folder: Path | None, args, seed: int) -> tuple[FastSlowRewardModel, float]:
    policy, tokenizer = load_policy(folder)
    started = time.perf_counter()
    judge = train_judge(policy, tokenizer, args.output / f"train{seed}", args.num_pairs, seed=seed)
    judge.save_pretrained(args.output / f"judge{seed}")
    return judge, round(time.perf_counter() - started, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policies", nargs="+", type=Path, default=[None] * 3, help="default: the shipped one, 3 seeds"
    )
    parser.add_argument("--judges", nargs="+", type=Path, help="judges that were trained before, one per seed")
    parser.add_argument("--output", type=Path, default=Path("outputs/fast-slow-quality"))
    parser.add_argument("--num-pairs", type=int, default=36000, help="training pairs of stage 1")
    parser.add_argument("--num-dev", type=int, default=1000)
    parser.add_argument("--num-test", type=int, default=1000)
    parser.add_argument("--budget", type=float, default=0.55)
    parser.add_argument("--stage-two", action="store_true", help="GRPO after stage 1, accuracy before and after")
    parser.add_argument("--steps", type=int, default=150, help="of stage 2")
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    seeds = []
    for seed, folder in enumerate(args.judges or args.policies, start=args.first_seed):
        if args.judges:
            judge, seconds = FastSlowRewardModel.from_pretrained(folder, batch_size=128), None
        else:
            judge, seconds = trained(folder, args, seed)
        if args.stage_two:
            test = pairs("test", args.num_test, seed)
            before = {mode: pair_accuracy(judge, test, mode) for mode in ("fast", "slow")}
            taken, log = stage_two(judge, args.output / f"grpo{seed}", args.steps, seed)
            after = {mode: pair_accuracy(judge, test, mode) for mode in ("fast", "slow")}
            record = {
                mode: {
                    "before": mean_with_interval(before[mode]),
                    "after": mean_with_interval(after[mode]),
                    "gain": mean_with_interval(after[mode] - before[mode]),
                }
                for mode in before
            }
            print(seed, f"stage 1 {seconds} s, stage 2 {taken:.1f} s", record, log, flush=True)
            seeds.append({**record, **log, "seconds": (seconds, taken)})
            continue
        seeds.append({**one_seed(judge, args.num_dev, args.num_test, args.budget, seed), "seconds": seconds})
    report = {"stage_two": seeds} if args.stage_two else print_gate(seeds)
    (args.output / "quality.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
