"""
Effect of stage 2 on the demo judge: GRPO on written judgments with TRL's trainer, after a short stage 1.

    python examples/benchmarks/fast_slow_stage_two.py --steps 150 --output quality2
    python examples/benchmarks/fast_slow_stage_two.py --judges early0 --steps 150   # judges of a short stage 1

Stage 2 uses training problems only; accuracy is measured on test problems before and after. Temperatures and thresholds
are fitted on development problems before and after stage 2. Prints Markdown and writes JSON. Intervals: 95 %, bootstrap
over problems.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from trl import GRPOConfig

from hf_reward_ext.demo.judge import MAX_NEW_TOKENS, pairs, train_judge
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.fast_slow import FastSlowGRPOTrainer, FastSlowRewardModel, counterfactual_prefixes

MODES = ("fast", "gated", "slow")


def stage_two(judge: FastSlowRewardModel, folder: Path, args, seed: int) -> dict:
    """Train in place, and return CPU seconds and the mean reward over training."""
    settings = GRPOConfig(
        str(folder),
        max_steps=args.steps,
        per_device_train_batch_size=args.batch_size,
        num_generations=8,
        max_completion_length=MAX_NEW_TOKENS,
        learning_rate=args.learning_rate,
        beta=0.0,
        temperature=1.0,
        report_to="none",
        save_strategy="no",
        logging_steps=max(1, args.steps // 10),
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        seed=seed,
    )
    num_pairs = max(1, args.steps * args.batch_size // 8 // 4)
    rows = counterfactual_prefixes(pairs("train", num_pairs, seed + 100), judge.judge_prompt)
    trainer = FastSlowGRPOTrainer(
        judge.causal_lm, settings, rows, judge_prompt=judge.judge_prompt, fast_loss_weight=0.1
    )
    started = time.process_time()
    trainer.train()
    judge.eval()
    logged = [round(row["rewards/slow_verdict_reward/mean"], 3) for row in trainer.state.log_history if "reward" in row]
    return {"seconds": round(time.process_time() - started, 1), "rewards": logged}


def measured(judge: FastSlowRewardModel, args, seed: int) -> dict:
    """Calibrate on development problems, then judge test problems in every mode."""
    calibration = judge.calibrate(pairs("dev", args.num_dev, seed), budget=args.budget, slow=True, show_progress=False)
    test = pairs("test", args.num_test, seed)
    found = {
        mode: judge.judge(test["prompt"], test["chosen"], test["rejected"], mode=mode, show_progress=False)
        for mode in MODES
    }
    tokens = {mode: sum(one.num_tokens for one in judgments) for mode, judgments in found.items()}
    return {
        "right": {mode: np.array([float(one.score > 0) for one in judgments]) for mode, judgments in found.items()},
        "parsed": float(np.mean([one.parsed for one in found["slow"]])),
        "token_share": tokens["gated"] / tokens["slow"],
        "gate": {name: calibration[f"{name}_threshold"] for name in ("intuition", "distribution")}
        | {"temperature": calibration["temperature"], "escalation_rate": calibration["escalation_rate"]},
    }


def early(args, seed: int) -> FastSlowRewardModel:
    """Return a judge after a short stage 1, trained or loaded."""
    if args.judges:
        return FastSlowRewardModel.from_pretrained(args.judges[seed - args.first_seed], batch_size=128)
    policy, tokenizer = load_policy(args.policies[seed - args.first_seed])
    folder = args.output / f"train{seed}"
    judge = train_judge(policy, tokenizer, folder, args.num_pairs, rounds=1, writing_rounds=0, seed=seed)
    judge.save_pretrained(args.output / f"early{seed}")
    return judge


def print_seeds(seeds: list[dict]) -> dict:
    print("| mode | before stage 2 | after | gain [95 %] | by seed, before to after |")
    print("|---|---:|---:|---:|---|")
    records = {}
    for mode in MODES:
        before, after = (np.concatenate([one[when]["right"][mode] for one in seeds]) for when in ("before", "after"))
        gain = mean_with_interval(after - before)
        each = [tuple(float(one[when]["right"][mode].mean()) for when in ("before", "after")) for one in seeds]
        records[mode] = {"before": mean_with_interval(before), "after": mean_with_interval(after), "gain": gain}
        shown = ", ".join(f"{start:.3f} to {end:.3f}" for start, end in each)
        print(f"| {mode} | {records[mode]['before']} | {records[mode]['after']} | {gain} | {shown} |", flush=True)
    print()
    for when in ("before", "after"):
        for name in ("gate", "token_share", "parsed"):
            print(f"{name} {when}: {[one[when][name] for one in seeds]}")
    print(f"stage 2: {[one['stage_two'] for one in seeds]}")
    for one in seeds:
        one["before"]["right"] = one["after"]["right"] = None
    return {"modes": records, "seeds": seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policies", nargs="+", type=Path, default=[None], help="folders of policies; default: the demo policy"
    )
    parser.add_argument("--judges", nargs="+", type=Path, help="folders of judges after a short stage 1, one per seed")
    parser.add_argument("--output", type=Path, default=Path("outputs/fast-slow-stage-two"))
    parser.add_argument("--num-pairs", type=int, default=14000, help="number of training pairs of the short stage 1")
    parser.add_argument("--steps", type=int, default=150, help="number of steps of stage 2")
    parser.add_argument("--batch-size", type=int, default=64, help="number of rollouts per step, 8 of each prompt")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--num-dev", type=int, default=300)
    parser.add_argument("--num-test", type=int, default=500)
    parser.add_argument("--budget", type=float, default=0.55)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    seeds = []
    for seed in range(args.first_seed, args.first_seed + len(args.judges or args.policies)):
        judge = early(args, seed)
        before = measured(judge, args, seed)
        seeds.append({"before": before, "stage_two": stage_two(judge, args.output / f"grpo{seed}", args, seed)})
        judge.save_pretrained(args.output / f"judge{seed}")
        seeds[-1]["after"] = measured(judge, args, seed)
    (args.output / "stage_two.json").write_text(json.dumps(print_seeds(seeds), indent=1) + "\n")


if __name__ == "__main__":
    main()
