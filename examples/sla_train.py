"""
Training of a reward channel on preference pairs.

    python examples/sla_train.py                                              # the demo policy and its walks
    python examples/sla_train.py --policy Qwen/Qwen3-0.6B --data pairs.jsonl  # any causal LM of the Hub

Rows of the data: `{prompt, chosen, rejected}`, text or chat.
"""

import argparse

import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.demo import walk
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.sla import SLAConfig, SLATrainer


def walks(policy, tokenizer, count: int) -> Dataset:
    """Return a correct and a wrong walk of the policy, for prompts with both."""
    prompts = [one.prompt for one in walk.random_walks("train", count)]
    rollouts = sample(policy, tokenizer, prompts, walk, num_candidates=8)
    rows = []
    for prompt, texts, correct in zip(prompts, rollouts.completions, rollouts.correct, strict=True):
        right = [text for text, is_right in zip(texts, correct, strict=True) if is_right]
        wrong = [text for text, is_right in zip(texts, correct, strict=True) if not is_right and text]
        rows += [
            {"prompt": prompt, "chosen": good, "rejected": bad} for good, bad in zip(right[:2], wrong[:2], strict=False)
        ]
    return Dataset.from_list(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="name or folder of a causal LM; default: the demo policy")
    parser.add_argument("--data", help="JSON lines; default: walks of the demo policy")
    parser.add_argument("--output", default="outputs/sla-channel")
    parser.add_argument("--num-prompts", type=int, default=1000, help="number of walks sampled from the demo policy")
    parser.add_argument("--channel-size", type=int, default=32)
    parser.add_argument("--loss", default="sequence_bt", choices=("sequence_bt", "token_bt", "sequence_ce", "token_ce"))
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--epochs", type=float, default=12)
    args = parser.parse_args(arguments)
    if bool(args.policy) != bool(args.data):
        parser.error("--policy and --data must be given together: a channel is trained on the states of its policy.")
    if args.policy:
        policy = AutoModelForCausalLM.from_pretrained(args.policy, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(args.policy)
        pairs = load_dataset("json", data_files=args.data, split="train")
    else:
        policy, tokenizer = load_policy()
        pairs = walks(policy, tokenizer, args.num_prompts)
    parts = pairs.train_test_split(test_size=0.2, seed=0)
    config = SLAConfig(
        args.output, loss_type=args.loss, channel_size=args.channel_size, learning_rate=args.learning_rate,
        num_train_epochs=args.epochs, per_device_train_batch_size=32, cache_hidden_states=True, report_to="none",
        save_strategy="no", bf16=torch.cuda.is_available(), use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    trainer = SLATrainer(
        policy, config, train_dataset=parts["train"], eval_dataset=parts["test"], processing_class=tokenizer
    )
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate()
    print(f"Pair accuracy {metrics['eval_accuracy']:.3f}, AuTRC {metrics['eval_autrc']:.3f}; channel in {args.output}")


if __name__ == "__main__":
    main()
