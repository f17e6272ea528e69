"""
GRPO with a reward model that is loaded by path, with the reward and the accuracy on held-out problems.

    python examples/grpo_reward.py elhsr            # or genarm, sla, fast_slow: trained first, on the demo policy
    python examples/grpo_reward.py outputs/grpo/elhsr/reward-model     # any folder of a reward model
    python examples/grpo_reward.py sla --trainer rloo
"""

import argparse
from pathlib import Path

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from hf_reward_ext import TextScorer
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.reward_models import METHODS, train_reward_model
from hf_reward_ext.demo.sampling import sample

TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}


def held_out(policy, tokenizer, scorer: TextScorer, num_problems: int) -> tuple[float, float]:
    """Return the mean reward of one sample per held-out problem, and the accuracy, which is not used in training."""
    torch.manual_seed(0)
    prompts = prompts_of(arithmetic, "dev", num_problems)
    rollouts = sample(policy.eval(), tokenizer, prompts, arithmetic, show_progress=False)
    return float(scorer(prompts, [own[0] for own in rollouts.completions]).mean()), rollouts.correct.mean()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reward", help=f"one of {', '.join(METHODS)}, or the folder of a reward model")
    parser.add_argument("--trainer", choices=TRAINERS, default="grpo")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--prompts-per-step", type=int, default=16)
    parser.add_argument(
        "--num-problems", type=int, default=800, help="number of problems for the training of the reward model"
    )
    parser.add_argument("--num-test", type=int, default=400, help="number of held-out problems")
    parser.add_argument("--output", default="outputs/grpo")
    args = parser.parse_args(arguments)
    folder = Path(args.output) / Path(args.reward).name
    policy, tokenizer = load_policy()
    path = args.reward
    if path in METHODS:
        path = str(train_reward_model(path, policy, tokenizer, folder / "reward-model", args.num_problems))
    policy.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    policy, _ = load_policy(folder / "policy")  # RLOO loads its reference by this name
    scorer = TextScorer.from_pretrained(path)
    before = held_out(policy, tokenizer, scorer, args.num_test)
    trainer_class, config_class = TRAINERS[args.trainer]
    trainer = trainer_class(
        policy,
        reward_funcs=path,
        args=config_class(
            str(folder / args.trainer), learning_rate=args.learning_rate, max_steps=args.steps, num_generations=8,
            per_device_train_batch_size=8 * args.prompts_per_step, max_completion_length=arithmetic.MAX_NEW_TOKENS,
            logging_steps=1, save_strategy="no", report_to="none", gradient_checkpointing=False, bf16=False,
            use_cpu=not torch.cuda.is_available(), disable_tqdm=True, lr_scheduler_type="constant",
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts_of(arithmetic, "train", 4000, seed=1)}),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    print(f"{args.reward}, {args.trainer}: mean reward of each step", *(f"{reward:.2f}" for reward in rewards))
    after = held_out(policy, tokenizer, scorer, args.num_test)
    for what, first, last in zip(("reward", "right answers"), before, after, strict=True):
        print(f"{what} on held-out problems: {first:.3f} -> {last:.3f}")


if __name__ == "__main__":
    main()
