"""
TRL's DPO on the demo policy, with the checkpoint selected by best-of-N under a reward model.

    python examples/dpo_with_callbacks.py --prepare    # pairs of its own samples, an ELHSR reward model, a GenARM guide
    python examples/dpo_with_callbacks.py
    accelerate launch --multi_gpu --num_processes 2 examples/dpo_with_callbacks.py  # on CPUs: ACCELERATE_USE_CPU=true
    python examples/dpo_with_callbacks.py --resume --max-steps 60        # resumes from the last checkpoint
"""

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

from hf_reward_ext import BestOfNCallback, GenARMRewardModel, GuidedGenerationCallback
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.reward_models import attempt_pairs, train_reward_model
from hf_reward_ext.demo.sampling import sample


def prepare(folder: Path, num_problems: int) -> None:
    """Create the data and models that all runs need."""
    policy, tokenizer = load_policy()
    if not (folder / "pairs.jsonl").exists():
        torch.manual_seed(1)
        prompts = prompts_of(arithmetic, "train", num_problems, seed=1)
        rollouts = sample(policy, tokenizer, prompts, arithmetic, num_candidates=8)
        attempt_pairs(rollouts).remove_columns("judgments").to_json(folder / "pairs.jsonl")
    for method in ("elhsr", "genarm"):
        if not (folder / method).exists():
            train_reward_model(method, policy, tokenizer, folder / method, num_problems)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="outputs/dpo")
    parser.add_argument("--num-problems", type=int, default=800, help="number of problems for pairs and reward models")
    parser.add_argument("--num-prompts", type=int, default=32, help="number of prompts that the callbacks sample from")
    parser.add_argument("--max-steps", type=int, default=40)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--prepare", action="store_true", help="only create pairs and reward models")
    args = parser.parse_args(arguments)
    folder = Path(args.output)
    if args.prepare:
        return prepare(folder, args.num_problems)
    if not (folder / "genarm").exists():
        parser.error(f"{folder} has no pairs and reward models yet. Create them first, in one process, with --prepare.")
    policy, tokenizer = load_policy()
    parts = load_dataset("json", data_files=str(folder / "pairs.jsonl"), split="train").train_test_split(0.1, seed=0)
    prompts = prompts_of(arithmetic, "dev", args.num_prompts)
    sampled: dict = dict(prompts=prompts, reward_model=str(folder / "elhsr"), max_new_tokens=arithmetic.MAX_NEW_TOKENS)
    trainer = DPOTrainer(
        policy, load_policy()[0],
        args=DPOConfig(
            str(folder / "policy"), learning_rate=3e-4, max_steps=args.max_steps, save_strategy="best",
            eval_strategy="steps", eval_steps=10, metric_for_best_model="eval_bon_reward",
            per_device_train_batch_size=16, per_device_eval_batch_size=16, report_to="none", bf16=False,
            use_cpu=not torch.cuda.is_available(), disable_tqdm=True,
        ),
        train_dataset=parts["train"], eval_dataset=parts["test"], processing_class=tokenizer,
        callbacks=[
            BestOfNCallback(**sampled, num_candidates=8),
            GuidedGenerationCallback(**sampled, guides=GenARMRewardModel.from_pretrained(folder / "genarm").causal_lm),
        ],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=args.resume or None)
    if trainer.is_world_process_zero():
        for row in (row for row in trainer.state.log_history if "eval_bon_reward" in row):
            print({name: round(row[name], 3) for name in row if name == "step" or "eval_bon" in name})
        print(f"best: {trainer.state.best_metric:.3f} in {trainer.state.best_model_checkpoint}")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
