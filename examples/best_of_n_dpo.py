"""
Sampling, scoring with ELHSR, DPO on the best against the worst candidates, and evaluation on held-out problems.

    python examples/best_of_n_dpo.py                      # the demo policy; a head is trained first
    python examples/best_of_n_dpo.py --num-prompts 64     # an interrupted run resumes with the same call
"""

import argparse
import copy
from pathlib import Path

import numpy as np
from datasets import load_dataset
from transformers import pipeline, set_seed
from trl import DPOConfig, DPOTrainer

from hf_reward_ext import write_best_of_n
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import TEMPERATURE, prompts_of, rollouts_of, train_head
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.evaluation import mean_with_interval


def measure(policy, tokenizer, prompts: list[str]) -> dict[str, np.ndarray]:
    """Return, per problem, the correctness of greedy decoding and the share of 8 samples that are correct."""
    set_seed(0)
    greedy = sample(policy, tokenizer, prompts, arithmetic, temperature=0, show_progress=False)
    sampled = sample(
        policy, tokenizer, prompts, arithmetic, num_candidates=8, temperature=TEMPERATURE, show_progress=False
    )
    return {"greedy": greedy.correct[:, 0].astype(float), "one sample": sampled.correct.mean(1)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-labels", type=int, default=2000, help="number of labeled completions for the head")
    parser.add_argument("--num-prompts", type=int, default=1000, help="number of prompts for pairs, without labels")
    parser.add_argument("--num-candidates", type=int, default=8)
    parser.add_argument("--num-test", type=int, default=500)
    parser.add_argument("--split", default="test", choices=["dev", "test"])
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--output", default="outputs/best-of-n-dpo")
    args = parser.parse_args(arguments)
    policy, tokenizer = load_policy()
    output = Path(args.output)
    head, _ = train_head(
        policy, tokenizer, rollouts_of(policy, tokenizer, arithmetic, args.num_labels).rows, output / "head"
    )
    pipe = pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=head)
    unseen = prompts_of(arithmetic, "train", args.num_labels + args.num_prompts)[args.num_labels :]
    path = write_best_of_n(
        pipe, unseen, output / "pairs.jsonl", num_candidates=args.num_candidates, batch_size=32,
        max_new_tokens=arithmetic.MAX_NEW_TOKENS, temperature=TEMPERATURE, top_k=0,
    )  # fmt: skip
    pairs = load_dataset("json", data_files=str(path), split="train", cache_dir=str(output / "cache"))
    print(f"{len(pairs)} pairs of {len(unseen)} prompts, mean margin {np.mean(pairs['margin']):.2f}")
    config = DPOConfig(
        str(output / "policy"), beta=args.beta, learning_rate=args.learning_rate, num_train_epochs=args.epochs,
        per_device_train_batch_size=32, report_to="none", save_strategy="no", bf16=False, use_cpu=True,
        gradient_checkpointing=False, logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    tuned = copy.deepcopy(policy)
    DPOTrainer(tuned, policy, args=config, train_dataset=pairs, processing_class=tokenizer).train()
    test = prompts_of(arithmetic, args.split, args.num_test)
    before, after = measure(policy, tokenizer, test), measure(tuned.eval(), tokenizer, test)
    for name in before:
        gain = mean_with_interval(after[name] - before[name])
        print(f"{name}: {mean_with_interval(before[name])} -> {mean_with_interval(after[name])}, gain {gain}")


if __name__ == "__main__":
    main()
