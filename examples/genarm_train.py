"""
Training of an autoregressive reward model on preference pairs.

    python examples/genarm_train.py                                                         # the demo policy
    python examples/genarm_train.py --model Qwen/Qwen3-0.6B --data pairs.jsonl --lora       # any causal LM of the Hub

Rows of the data: `{prompt, chosen, rejected}`, text or chat, or pairs without `prompt`. The pairs of the demo are a
correct and a wrong sample of the policy.
"""

import argparse

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig

from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.genarm import GenARMConfig, GenARMTrainer


def pairs_of(policy, tokenizer, num_problems: int) -> Dataset:
    """Return a correct and a wrong sample of each problem that has both."""
    torch.manual_seed(0)
    prompts = prompts_of(arithmetic, "train", num_problems)
    rollouts = sample(policy, tokenizer, prompts, arithmetic, num_candidates=8)
    pairs = []
    for prompt, texts, correct in zip(prompts, rollouts.completions, rollouts.correct, strict=True):
        right, wrong = ([text for text, own in zip(texts, correct, strict=True) if own == side] for side in (1, 0))
        if right and wrong:
            pairs.append({"prompt": prompt, "chosen": right[0], "rejected": wrong[0]})
    return Dataset.from_list(pairs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or folder of a causal LM; default: the demo policy")
    parser.add_argument("--data", help="JSON lines; default: samples of the demo policy")
    parser.add_argument("--output", default="outputs/genarm")
    parser.add_argument("--num-problems", type=int, default=1500, help="number of problems of the demo")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--lora", action="store_true", help="train an adapter instead of all weights")
    args = parser.parse_args(arguments)
    if bool(args.model) != bool(args.data):
        parser.error("--model and --data must be given together; the demo samples its pairs.")
    model, tokenizer = (args.model, None) if args.model else load_policy()
    if args.data:
        rows = load_dataset("json", data_files=args.data, split="train")
    else:
        rows = pairs_of(model, tokenizer, args.num_problems)
    parts = rows.train_test_split(test_size=0.1, seed=0)
    trainer = GenARMTrainer(
        model,
        GenARMConfig(
            args.output,
            beta=0.3,
            learning_rate=args.learning_rate,
            max_steps=args.max_steps,
            per_device_train_batch_size=16,
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=parts["train"],
        eval_dataset=parts["test"],
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=8) if args.lora else None,
    )
    before = trainer.evaluate()
    trainer.train()
    trainer.save_model()
    after = trainer.evaluate()
    print(f"Held-out pair accuracy {before['eval_accuracy']:.3f} -> {after['eval_accuracy']:.3f}; in {args.output}")


if __name__ == "__main__":
    main()
