"""
GRPO against a small reward model, alone and with a rule beside it, watched by a held-out reward.

    python examples/benchmarks/grpo_drift.py elhsr      # or genarm, sla, fast_slow: trained first, on the demo policy
    python examples/benchmarks/grpo_drift.py outputs/grpo/elhsr/reward-model      # any folder of a reward model

The first run satisfies the model and loses accuracy, and `RewardDriftCallback` warns. In the second run the model
counts only for right results. The held-out reward is the rule of the task: all steps right, in the given order.
"""

import argparse
import warnings
from pathlib import Path

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from hf_reward_ext.callbacks import RewardDriftCallback
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.reward_models import METHODS, train_reward_model
from hf_reward_ext.rewards import AnswerReward, ConditionedReward, ModelReward


def is_right(prompts, completions):
    """Return the held-out reward."""
    return [float(arithmetic.is_correct(*pair)) for pair in zip(prompts, completions, strict=True)]


def target_of(prompt: str) -> str:
    return prompt.rstrip("|").split("=")[1]


def run(name: str, reward, args) -> RewardDriftCallback:
    """Train the demo policy on a reward, and return the callback that watched it."""
    policy, tokenizer = load_policy()
    train, dev = (prompts_of(arithmetic, "train", 4000, seed=1), prompts_of(arithmetic, "dev", args.num_test))
    watched = Dataset.from_dict({"prompt": dev, "target": list(map(target_of, dev))})
    callback = RewardDriftCallback(
        watched, reward, is_right, num_candidates=2, max_new_tokens=arithmetic.MAX_NEW_TOKENS, batch_size=args.num_test
    )
    trainer = GRPOTrainer(
        policy,
        reward_funcs=reward,
        args=GRPOConfig(
            f"{args.output}/{name}", learning_rate=args.learning_rate, max_steps=args.steps, num_generations=8,
            per_device_train_batch_size=8 * args.prompts_per_step, max_completion_length=arithmetic.MAX_NEW_TOKENS,
            eval_strategy="steps", eval_steps=args.eval_steps, per_device_eval_batch_size=8, logging_steps=1,
            save_strategy="no", report_to="none", gradient_checkpointing=False, bf16=False, disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(), lr_scheduler_type="constant",
        ),
        train_dataset=Dataset.from_dict({"prompt": train, "target": list(map(target_of, train))}),
        eval_dataset=watched.select([0]),  # TRL's own evaluation; the callback has its prompts
        processing_class=tokenizer,
        callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    return callback


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reward", help=f"one of {', '.join(METHODS)}, or the folder of a reward model")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--eval-steps", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--prompts-per-step", type=int, default=16)
    parser.add_argument(
        "--num-problems", type=int, default=60, help="number of problems for the training of the reward model"
    )
    parser.add_argument("--num-test", type=int, default=200, help="number of held-out problems")
    parser.add_argument("--output", default="outputs/grpo_drift")
    args = parser.parse_args(arguments)
    folder = args.reward
    if folder in METHODS:
        folder = train_reward_model(folder, *load_policy(), Path(args.output) / folder, args.num_problems)
    model = ModelReward(folder, batch_size=128, name="model")
    right = AnswerReward(r"=(\d+)$", column="target")
    rewards = {"gamed": model, "sound": ConditionedReward(right, model, otherwise=-5.0, name="model_if_right")}
    for name, reward in rewards.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            callback = run(name, reward, args)
        print(f"\n{name}\nstep  reward  held-out  kl     length  shift  parted")
        for row in callback.history:
            print("{step:4}  {reward:6.2f}  {held_out_reward:8.3f}  {kl:5.2f}  {length:6.1f}  ".format(**row), end="")
            print("{feature_shift:5.2f}  {parted:.0f}".format(**row))
        print(*(str(one.message) for one in caught if "rewards part" in str(one.message)), sep="\n")
        callback.plot(Path(args.output) / f"{name}.png")


if __name__ == "__main__":
    main()
