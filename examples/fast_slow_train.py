"""
Training and calibration of a Fast-Slow judge.

    python examples/fast_slow_train.py                                     # the demo judge, minutes on a CPU
    python examples/fast_slow_train.py --model Qwen/Qwen3-4B --data pairs.jsonl --lora 32  # other pairs

Rows of the data: `{prompt, chosen, rejected}`, text or chat; with a column `judgments`, or the model samples judgments.
"""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.demo.judge import pairs, train_judge
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.fast_slow import FastSlowConfig, FastSlowRewardModel, FastSlowTrainer, sample_judgments


def train_on(args) -> tuple[FastSlowRewardModel, list[dict]]:
    """Sample judgments, train on nine tenths of the data, and calibrate on the rest; for any causal LM."""
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="auto")
    judge = FastSlowRewardModel(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, args.verdicts)
    parts = load_dataset("json", data_files=args.data, split="train").train_test_split(0.1, seed=0)
    train = parts["train"]
    if "judgments" not in train.column_names:
        train = sample_judgments(judge, train, num_samples=args.num_samples)
    trainer = FastSlowTrainer(
        judge,
        FastSlowConfig(args.output, report_to="none", use_cpu=not torch.cuda.is_available(), max_steps=args.max_steps),
        train_dataset=train,
        peft_config=LoraConfig(r=args.lora, target_modules="all-linear", task_type="CAUSAL_LM") if args.lora else None,
    )
    trainer.train()
    return trainer.judge, list(parts["test"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or folder of a causal LM; default: the demo policy")
    parser.add_argument("--data", help="JSON lines of preference pairs")
    parser.add_argument("--verdicts", nargs="+", default=["A", "B"], help="with --model")
    parser.add_argument("--output", default="outputs/judge")
    parser.add_argument("--lora", type=int, default=0, help="rank of LoRA; 0 trains all weights")
    parser.add_argument("--num-samples", type=int, default=8, help="number of judgments sampled per judge prompt")
    parser.add_argument("--num-pairs", type=int, default=14000, help="number of pairs per round of the demo")
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument(
        "--budget", type=float, default=0.6, help="maximum share of the tokens of escalating all decisions"
    )
    args = parser.parse_args(arguments)
    if bool(args.model) != bool(args.data):
        parser.error("--model and --data must be given together; without both, the demo judge is trained.")
    if args.model:
        judge, held_out = train_on(args)
    else:
        policy, tokenizer = load_policy()
        judge = train_judge(policy, tokenizer, args.output, args.num_pairs)
        held_out = pairs("dev", 200)
    print(judge.calibrate(held_out, budget=args.budget, slow=True))
    judge.save_pretrained(args.output)
    print(f"Saved in {args.output}.")


if __name__ == "__main__":
    main()
