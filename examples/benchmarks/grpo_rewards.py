"""
Every function of `hf_reward_ext.rewards` in a GRPO run of the demo policy, and slow rewards that wait together.

    python examples/benchmarks/grpo_rewards.py --results examples/results/grpo_rewards.json

TRL's `GRPOTrainer` as it is, 20 steps for each function, from the same policy with the same prompts. Before and after,
8 samples for each held-out problem give the reward itself, and the accuracy: all steps right, in the order of the
numbers. Intervals: bootstrap over problems. An interrupted run resumes with the missing functions.
"""

import argparse
import json
import re
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from interleaved import print_table
from trl import GRPOConfig, GRPOTrainer

from hf_reward_ext import FastSlowRewardModel, GenARMRewardModel, RewardTransformer
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.reward_models import METHODS, train_reward_model
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.rewards import (
    AnswerReward,
    AsyncReward,
    ConditionedReward,
    FastSlowReward,
    FormatReward,
    GroupwiseReward,
    LengthControlled,
    ModelReward,
    Scored,
    StepReward,
    SyncReward,
    TokenRewardMean,
    WeightedReward,
)

GENERATIONS = 8
STEP = r"\d+[-+*]\d+=\d+"


def target_of(prompt: str) -> str:
    return prompt.rstrip("|").split("=")[1]


def closest_first(requests: list[str]) -> list[str]:
    """Judge groups by a rule: the closer the last result is to the target, the better."""
    judgments = []
    for request in requests:
        target = int(target_of(request.split("\n")[0]))
        results = [answer.rsplit("=", 1)[-1] for answer in re.findall(r"^Answer \d+:\n(.*)$", request, re.MULTILINE)]
        distances = [abs(int(result) - target) if result.isdecimal() else 100 for result in results]
        places = [
            " = ".join(str(number) for number, own in enumerate(distances, start=1) if own == distance)
            for distance in sorted(set(distances))
        ]
        judgments.append("Ranking: " + " > ".join(places))
    return judgments


def shelf(folders: dict[str, Path], tokenizer) -> dict[str, Callable]:
    """Return every function on the arithmetic task."""
    right = AnswerReward(r"=(\d+)$", column="target", name="answer")
    model = ModelReward(folders["elhsr"], batch_size=64, name="model")
    arm = GenARMRewardModel.from_pretrained(folders["genarm"])
    token_mean = partial(TokenRewardMean, tokenizer=tokenizer, batch_size=64)
    return {
        "AnswerReward": right,
        "FormatReward": FormatReward(rf"{STEP};{STEP};{STEP}"),
        "LengthControlled": LengthControlled(right, budget=20, weight=0.5),
        "ConditionedReward": ConditionedReward(right, LengthControlled(budget=12, weight=0.5)),
        "WeightedReward": WeightedReward([right, model], [1.0, 0.2]),
        "ModelReward": model,
        "TokenRewardMean": token_mean(RewardTransformer.from_pretrained(folders["sla"])),
        "StepReward": StepReward(token_mean(arm), "[;/]", aggregation="min"),
        "FastSlowReward": FastSlowReward(FastSlowRewardModel.from_pretrained(folders["fast_slow"])),
        "GroupwiseReward": GroupwiseReward(
            closest_first, tokenizer, template="{prompt}\n{answers}", num_generations=GENERATIONS
        ),
    }


def measure(policy, tokenizer, reward: Callable, prompts: list[str]) -> dict[str, np.ndarray]:
    """Return the mean reward and the accuracy of each held-out problem, with the same random numbers at each call."""
    rollouts = sample(
        policy.eval(), tokenizer, prompts, arithmetic, num_candidates=GENERATIONS, seed=0, show_progress=False
    )
    repeated = [prompt for prompt in prompts for _ in range(GENERATIONS)]
    columns = {"completion_ids": [row["completion_ids"] for row in rollouts.rows]}
    columns["target"] = list(map(target_of, repeated))
    texts = [text for group in rollouts.completions for text in group]
    score = getattr(reward, "score", reward)
    found = np.array([float(value) for value in score(repeated, texts, **columns)])
    return {"reward": found.reshape(-1, GENERATIONS).mean(1), "accuracy": rollouts.correct.mean(1)}


def train(policy, tokenizer, rewards: list, folder: Path, args, steps: int) -> list[dict]:
    """Run GRPO, and return what it logged at each step."""
    prompts = prompts_of(arithmetic, "train", 4000, seed=1)
    trainer = GRPOTrainer(
        policy,
        reward_funcs=rewards,
        args=GRPOConfig(
            str(folder), learning_rate=args.learning_rate, max_steps=steps, num_generations=GENERATIONS,
            per_device_train_batch_size=GENERATIONS * args.prompts_per_step, logging_steps=1, save_strategy="no",
            max_completion_length=arithmetic.MAX_NEW_TOKENS, report_to="none", gradient_checkpointing=False, bf16=False,
            disable_tqdm=True, use_cpu=not torch.cuda.is_available(), lr_scheduler_type="constant",
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts, "target": list(map(target_of, prompts))}),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return [row for row in trainer.state.log_history if "reward" in row]


def one_function(name: str, reward: Callable, args) -> dict:
    """Return the curve of a run, and what held-out problems show before and after."""
    started = time.perf_counter()
    policy, tokenizer = load_policy()
    held_out = prompts_of(arithmetic, "dev", args.num_test)
    before = measure(policy, tokenizer, reward, held_out)
    logged = train(policy, tokenizer, [reward], args.output / name, args, args.steps)
    after = measure(policy, tokenizer, reward, held_out)
    return {
        "curve": [round(row["reward"], 3) for row in logged],
        **{f"{key}_before": _rounded(before[key]) for key in before},
        **{f"{key}_after": _rounded(after[key]) for key in after},
        "accuracy_gain": _rounded(after["accuracy"] - before["accuracy"]),
        "seconds": round(time.perf_counter() - started),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in mean_with_interval(values)]


class Waiting(SyncReward):
    """A judge that takes a while: the accuracy, after `seconds`."""

    seconds = 0.0

    def compute(self, prompts, completions, columns) -> Scored:
        time.sleep(self.seconds)
        return Scored([float(arithmetic.is_correct(*pair)) for pair in zip(prompts, completions, strict=True)])


class AsyncWaiting(AsyncReward):
    """The same, asynchronous."""

    seconds = 0.0
    compute = Waiting.compute


def waiting(args) -> dict:
    """Return the median seconds of a small step with two slow rewards, synchronous and asynchronous by turns."""
    args = argparse.Namespace(**{**vars(args), "prompts_per_step": 1})
    seconds: dict[str, list[float]] = {"without": [], "sync": [], "async": []}
    for _ in range(args.repeats):
        for way in seconds:
            kind, wait = (AsyncWaiting if way == "async" else Waiting), (0.0 if way == "without" else args.wait)
            policy, tokenizer = load_policy()
            rewards = [kind("first"), kind("second")]
            for reward in rewards:
                reward.seconds = wait
            rows = train(policy, tokenizer, rewards, args.output / "waiting", args, steps=4)
            seconds[way] += [row["step_time"] for row in rows[1:]]
    medians = {way: round(float(np.median(values)), 3) for way, values in seconds.items()}
    return {"wait": args.wait, "rewards": 2, "steps": len(seconds["sync"]), "median_step_seconds": medians}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", nargs="+", help="default: all")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--prompts-per-step", type=int, default=8)
    parser.add_argument("--num-problems", type=int, default=800, help="number of problems for each reward model")
    parser.add_argument("--num-test", type=int, default=100, help="number of held-out problems")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds that a slow reward takes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("outputs/grpo_rewards"))
    parser.add_argument("--results", type=Path, help="JSON file of all numbers")
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    folders = {method: args.output / f"model-{method}" for method in METHODS}
    policy, tokenizer = load_policy()
    for method, folder in folders.items():
        if not (folder / "tokenizer.json").exists():  # saved last
            train_reward_model(method, policy, tokenizer, folder, args.num_problems)
    rewards = shelf(folders, tokenizer)
    jobs = {name: partial(one_function, name, reward, args) for name, reward in rewards.items()}
    jobs["waiting"] = partial(waiting, args)
    found = {}
    for name in args.functions or jobs:
        path = args.output / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(jobs[name]()))
        found[name] = json.loads(path.read_text())
    slow = found.pop("waiting", None)
    rows = [
        (name, *(one["curve"][step] for step in (0, -1)), *(_shown(one[key]) for key in _COLUMNS))
        for name, one in found.items()
    ]
    header = ("function", "reward, step 1", f"step {args.steps}", *(key.replace("_", ", ") for key in _COLUMNS))
    print_table(f"GRPO, {args.steps} steps of {GENERATIONS * args.prompts_per_step} completions", rows, header)
    print(slow)
    if args.results:
        settings = {key: value for key, value in vars(args).items() if isinstance(value, int | float)}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
        record = {"date": str(date.today()), "versions": versions, "settings": settings, "functions": found}
        args.results.write_text(json.dumps({**record, "waiting": slow}) + "\n")


_COLUMNS = ("reward_before", "reward_after", "accuracy_before", "accuracy_after", "accuracy_gain")


def _shown(estimate: list[float]) -> str:
    return f"{estimate[0]:.3f} [{estimate[1]:.3f}, {estimate[2]:.3f}]"


if __name__ == "__main__":
    main()
