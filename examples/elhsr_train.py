"""
Training of an ELHSR head on labeled completions.

    python examples/elhsr_train.py                                            # the demo policy and its samples
    python examples/elhsr_train.py --policy Qwen/Qwen3-0.6B --data rows.jsonl # any causal LM of the Hub

Rows of the data: `{prompt, completion, label}`, `{prompt, completions, labels}` or preference pairs, text or chat.
"""

import argparse

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext import ELHSRConfig, ELHSRTrainer
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import rollouts_of
from hf_reward_ext.demo.policy import load_policy


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="name or folder of a causal LM; default: the demo policy")
    parser.add_argument("--data", help="JSON lines; default: samples of the demo policy")
    parser.add_argument("--output", default="outputs/elhsr-head")
    parser.add_argument("--num-samples", type=int, default=2000, help="number of samples of the demo policy")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--epochs", type=float, default=60)
    args = parser.parse_args(arguments)
    if bool(args.policy) != bool(args.data):
        parser.error("--policy and --data must be given together: a head learns from completions of its policy.")
    if args.policy:
        policy = AutoModelForCausalLM.from_pretrained(args.policy, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(args.policy)
        rows = load_dataset("json", data_files=args.data, split="train")
    else:
        policy, tokenizer = load_policy()
        rows = rollouts_of(policy, tokenizer, arithmetic, args.num_samples).to_dataset()
    trainer = ELHSRTrainer(
        policy,
        ELHSRConfig(
            args.output,
            standardize=True,
            learning_rate=args.learning_rate,
            weight_decay=0.3,
            lr_scheduler_type="linear",
            num_train_epochs=args.epochs,
            per_device_train_batch_size=64,
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    print(f"Head of {trainer.model.num_parameters()} parameters in {args.output}; {trainer.evaluate()}")


if __name__ == "__main__":
    main()
