"""
Online DPO on the demo policy: before each epoch the policy in training samples new pairs, ranked by an ELHSR head.

    python examples/online_dpo.py --prepare    # a head, and the pairs of the first epoch
    python examples/online_dpo.py
    python examples/online_dpo.py --resume     # continues from the last checkpoint, with the same pairs
    accelerate launch --multi_gpu --num_processes 2 examples/online_dpo.py   # on CPUs: ACCELERATE_USE_CPU=true
"""

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from transformers import pipeline, set_seed
from trl import DPOConfig, DPOTrainer

from hf_reward_ext import write_best_of_n
from hf_reward_ext.callbacks import OnlinePairsCallback
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import TEMPERATURE, prompts_of, rollouts_of, train_head
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.evaluation import mean_with_interval

SAMPLING = dict(num_candidates=8, max_new_tokens=arithmetic.MAX_NEW_TOKENS, temperature=TEMPERATURE, top_k=0)


def prepare(folder: Path, prompts: list[str], num_labels: int) -> None:
    policy, tokenizer = load_policy()
    labeled = rollouts_of(policy, tokenizer, arithmetic, num_labels)
    head, _ = train_head(policy, tokenizer, labeled.rows, folder / "head")
    pipe = pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=head)
    write_best_of_n(pipe, prompts, folder / "pairs-0.jsonl", batch_size=32, **SAMPLING)


def accuracy(policy, tokenizer, num_problems: int) -> str:
    """Return the share of samples that solve held-out problems."""
    set_seed(0)
    prompts = prompts_of(arithmetic, "dev", num_problems)
    found = sample(policy.eval(), tokenizer, prompts, arithmetic, num_candidates=4, show_progress=False)
    return str(mean_with_interval(found.correct.mean(1)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-labels", type=int, default=1000, help="number of labeled completions for the head")
    parser.add_argument("--num-prompts", type=int, default=300, help="number of prompts for pairs, without labels")
    parser.add_argument("--num-test", type=int, default=200)
    parser.add_argument("--output", default="outputs/online-dpo")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    args = parser.parse_args(arguments)
    folder, first = Path(args.output), Path(args.output) / "pairs-0.jsonl"
    prompts = prompts_of(arithmetic, "train", args.num_labels + args.num_prompts)[args.num_labels :]
    if args.prepare:
        return prepare(folder, prompts, args.num_labels)
    if not first.exists():
        parser.error(f"{folder} has no head and pairs yet. Create them first, in one process, with --prepare.")
    policy, tokenizer = load_policy()
    pairs = load_dataset("json", data_files=str(first), split="train", cache_dir=str(folder / "cache"))
    before = accuracy(policy, tokenizer, args.num_test)
    trainer = DPOTrainer(
        policy, load_policy()[0],
        args=DPOConfig(
            str(folder / "policy"), num_train_epochs=3, learning_rate=1e-4,
            per_device_train_batch_size=32, report_to="none", save_strategy="epoch", lr_scheduler_type="constant",
            bf16=False, use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False, disable_tqdm=True,
        ),
        train_dataset=pairs, processing_class=tokenizer,
    )  # fmt: skip
    trainer.add_callback(OnlinePairsCallback(trainer, prompts, folder / "head", folder, batch_size=32, **SAMPLING))
    trainer.train(resume_from_checkpoint=args.resume or None)
    print(*(row for row in trainer.state.log_history if "pairs/margin" in row), sep="\n")
    print(f"accuracy: {before} -> {accuracy(trainer.model, tokenizer, args.num_test)}")


if __name__ == "__main__":
    main()
