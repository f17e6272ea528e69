"""
Best-of-16 on held-out problems by all ways to choose, over several base policies, with pruning curves.

    python -m hf_reward_ext.demo.train --seed 1 --output seed1   # and so on
    python examples/benchmarks/elhsr_quality.py --policies seed0 seed1 seed2 --output quality

Prints Markdown tables and writes `choices.json`, `pruning.json` and `pruning.png`.
Intervals: bootstrap over the problems of all seeds.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_reward_ext import Pruning
from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.comparison import Way
from hf_reward_ext.demo.elhsr import (
    CANDIDATES,
    TEMPERATURE,
    prompts_of,
    rollouts_of,
    sample_pruned,
    train_head,
    with_prefixes,
)
from hf_reward_ext.demo.elhsr_comparison import compare_choices
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.demo.setup import Setup
from hf_reward_ext.demo.tour import FULL
from hf_reward_ext.evaluation import best_of_n_curve, mean_with_interval

PRUNINGS = {
    arithmetic: [
        Pruning((18,), 0.5), Pruning((6, 12, 18), 0.85), Pruning((6, 12, 18), 0.7), Pruning((6, 12, 18), 0.5),
    ],
    walk: [
        Pruning((3, 7, 11, 15, 19, 23), keep, gap)
        for keep, gap in ((1.0, 4.0), (1.0, 2.0), (0.9, 3.0), (0.9, 2.0), (0.85, 2.0), (0.8, 2.0), (0.8, None))
    ],
}  # fmt: skip


def quality(folders: list[Path], output: Path, num_train: list[int], num_test: int) -> list[dict]:
    """Pool the arithmetic rows of the demo over the seeds."""
    pooled: dict[tuple, dict] = {}
    for seed, folder in enumerate(folders):
        rows: dict[tuple, Way] = {}  # those without labels are the same for every number of labels
        for count in num_train:
            size = replace(FULL, num_train=count, num_test=num_test)
            ways, _ = compare_choices(Setup(output / f"seed{seed}", size, seed, folder))
            for way in ways:
                rows.setdefault((way.name, way.what), way)
        for key, row in rows.items():
            entry = pooled.setdefault(key, {"right": [], "tokens": [], "seconds": [], "seeds": []})
            entry["right"] += row.right
            entry["tokens"].append(row.tokens)
            entry["seconds"].append(row.seconds)
            entry["seeds"].append(row.accuracy.value)
    majority = next(entry for (method, _), entry in pooled.items() if method == "majority")["right"]
    likely = next(entry for (method, _), entry in pooled.items() if method == "log-probability")["right"]
    print("| way to choose | what | accuracy [95 %] | by seed | minus majority | minus log-probability | s |")
    print("|---|---|---:|---:|---:|---:|---:|")
    records = []
    for (method, what), entry in pooled.items():
        right = np.array(entry["right"])
        record = {
            "method": method,
            "what": what,
            "accuracy": mean_with_interval(right),
            "by_seed": entry["seeds"],
            "minus_majority": mean_with_interval(right - np.array(majority)),
            "minus_log_probability": mean_with_interval(right - np.array(likely)),
            "tokens": float(np.mean(entry["tokens"])),
            "seconds": float(np.mean(entry["seconds"])),
        }
        records.append(record)
        seeds = " ".join(f"{value:.3f}" for value in entry["seeds"])
        print(
            f"| {method} | {what} | {record['accuracy']} | {seeds} | {record['minus_majority']} | "
            f"{record['minus_log_probability']} | {record['seconds']:.1f} |",
            flush=True,
        )
    return records


def pruning(task, folders: list[Path], output: Path, num_train: int, num_test: int) -> dict[str, list[dict]]:
    """Measure accuracy against tokens: plain BoN@k for every k, and pruned best of 16."""
    plain: dict[str, list] = {"rewards": [], "correct": [], "num_tokens": []}
    pruned: dict[Pruning, list] = {setting: [] for setting in PRUNINGS[task]}
    for seed, folder in enumerate(folders):
        policy, tokenizer = load_policy(folder)
        labeled = rollouts_of(policy, tokenizer, task, num_train, seed)
        steps = sorted({step for setting in PRUNINGS[task] for step in setting.steps})
        head, _ = train_head(
            policy,
            tokenizer,
            with_prefixes(labeled.rows, steps),
            output / f"seed{seed}" / f"prune-{task.__name__.split('.')[-1]}",
            seed,
            num_train_epochs=15,
        )
        prompts = prompts_of(task, "test", num_test, seed)
        rollouts = sample(
            policy, tokenizer, prompts, task, num_candidates=CANDIDATES, temperature=TEMPERATURE, head=head, seed=seed
        )
        for name, values in plain.items():
            values.append(getattr(rollouts, name))
        for setting, runs in pruned.items():
            runs.append(sample_pruned(policy, tokenizer, head, prompts, task, setting, seed=seed))
    rewards, correct, num_tokens = (np.concatenate(plain[name]) for name in ("rewards", "correct", "num_tokens"))
    whole = float(num_tokens.sum(1).mean())
    curve = best_of_n_curve(rewards, correct)
    points = {
        "plain": [{"what": f"BoN@{k}", "tokens": whole * k / CANDIDATES, "accuracy": curve[k]} for k in curve],
        "pruned": [
            {
                "what": f"keep {setting.keep}, gap {setting.max_gap}, after {setting.steps} tokens",
                "tokens": float(np.concatenate([tokens for _, tokens in runs]).mean()),
                "accuracy": mean_with_interval(np.concatenate([right for right, _ in runs])),
            }
            for setting, runs in pruned.items()
        ],
    }
    print(f"\n### {task.__name__.split('.')[-1]}: {len(rewards)} problems, best of {CANDIDATES}\n")
    print("| | tokens | of BoN@16 | accuracy [95 %] |\n|---|---:|---:|---:|")
    for way in points.values():
        for point in way:
            print(f"| {point['what']} | {point['tokens']:.0f} | {point['tokens'] / whole:.2f} | {point['accuracy']} |")
    return points


def draw(curves: dict[str, dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 4), layout="constrained", squeeze=False)
    for axis, (name, ways) in zip(axes[0], curves.items(), strict=True):
        for way, points in ways.items():
            values = [point["accuracy"] for point in points]
            errors = [[one.value - one.lower for one in values], [one.upper - one.value for one in values]]
            axis.errorbar(
                [point["tokens"] for point in points], [one.value for one in values], errors,
                marker="o", markersize=3, capsize=2, label=f"{way} best-of-N",
            )  # fmt: skip
        axis.set(title=name, xlabel="tokens per problem", ylabel="accuracy")
        axis.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policies", nargs="+", type=Path, default=[None], help="folders of policies; default: the demo policy"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/quality"))
    parser.add_argument("--num-train", nargs="+", type=int, default=[1000, 2000, 4000])
    parser.add_argument("--only", choices=("choices", "pruning"))
    parser.add_argument("--num-test", type=int, default=500, help="number of held-out problems per policy")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.only != "pruning":
        records = quality(args.policies, args.output, args.num_train, args.num_test)
        (args.output / "choices.json").write_text(json.dumps(records, indent=1) + "\n")
    if args.only == "choices":
        return
    curves = {
        task.__name__.split(".")[-1]: pruning(task, args.policies, args.output, max(args.num_train), args.num_test)
        for task in (walk, arithmetic)
    }
    (args.output / "pruning.json").write_text(json.dumps(curves, indent=1) + "\n")
    draw(curves, args.output / "pruning.png")


if __name__ == "__main__":
    main()
