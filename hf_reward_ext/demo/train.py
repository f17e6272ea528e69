"""
Training of the demo policy: `python -m hf_reward_ext.demo.train --output DIR`.

It writes the model, its tokenizer and `train_log.json` (loss, accuracies on the development split, seconds, versions).
"""

import json
import time
from argparse import ArgumentParser, Namespace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers import DataCollatorForSeq2Seq, GenerationConfig, Trainer, TrainingArguments, set_seed

from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.corpus import Corpus
from hf_reward_ext.demo.policy import new_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.demo.tokenizer import build_tokenizer
from hf_reward_ext.evaluation import majority_curve


def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    set_seed(args.seed)
    tokenizer = build_tokenizer()
    policy = new_policy(tokenizer, args.hidden_size, args.num_layers, args.num_heads)
    policy.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    started = time.perf_counter()
    losses = train(policy, tokenizer, args)
    log = {
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "settings": {name: value for name, value in vars(args).items() if name != "output"},
        "parameters": policy.num_parameters(),
        "train_seconds": round(time.perf_counter() - started, 1),
        "threads": torch.get_num_threads(),
        "loss": losses,
        "dev": {
            "arithmetic": _accuracy(policy, tokenizer, _arithmetic_prompts(args.problems), arithmetic),
            "walk": _accuracy(policy, tokenizer, _walk_prompts(args.problems), walk),
        },
    }
    policy.bfloat16().save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    (Path(args.output) / "train_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"train_seconds": log["train_seconds"], **log["dev"]}, indent=1))


def train(policy, tokenizer, args: Namespace) -> list[dict[str, float]]:
    """Train in place, and return the logged losses."""
    with TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=policy,
            args=TrainingArguments(
                output_dir=scratch,
                max_steps=args.steps,
                per_device_train_batch_size=args.batch_size,
                learning_rate=args.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=min(100, args.steps // 10),
                adam_beta2=0.98,
                weight_decay=0.01,
                logging_steps=max(1, args.steps // 20),
                save_strategy="no",
                report_to="none",
                seed=args.seed,
                use_cpu=not torch.cuda.is_available(),
                accelerator_config={"dispatch_batches": False},
            ),
            train_dataset=Corpus(
                tokenizer, args.steps, args.batch_size, args.seed, args.right, args.clean, args.walk_share, args.retry
            ),
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        )
        trainer.train()
    return [{"step": row["step"], "loss": round(row["loss"], 4)} for row in trainer.state.log_history if "loss" in row]


def _arithmetic_prompts(count: int) -> list[str]:
    return [problem.prompt for problem in arithmetic.problems("dev")[:count]]


def _walk_prompts(count: int) -> list[str]:
    return [one.prompt for one in walk.random_walks("dev", count)]


def _accuracy(policy, tokenizer, prompts: list[str], task) -> dict[str, float]:
    """Return the accuracy of greedy decoding, of single samples, and of any of 16 samples at temperature 1."""
    policy.eval()
    greedy = sample(policy, tokenizer, prompts, task, temperature=0, show_progress=False)
    rollouts = sample(policy, tokenizer, prompts, task, num_candidates=16, show_progress=False)
    return {
        "problems": len(prompts),
        "greedy": round(float(greedy.correct.mean()), 4),
        "pass@1": round(float(rollouts.correct.mean()), 4),
        "pass@16": round(float(rollouts.correct.max(1).mean()), 4),
        "majority@16": round(majority(rollouts, task), 4),
        "mean-log-probability pick of 16": round(best_by(rollouts.mean_logps, rollouts.correct), 4),
    }


def majority(rollouts, task) -> float:
    """Return the accuracy of the most frequent answer."""
    answers = [[task.extract_answer(text) for text in group] for group in rollouts.completions]
    count = rollouts.correct.shape[1]
    return majority_curve(answers, rollouts.correct, ks=[count])[count].value


def best_by(scores, correct) -> float:
    """Return the accuracy of the candidate with the highest score."""
    return float(correct[range(len(scores)), scores.argmax(1)].mean())


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m hf_reward_ext.demo.train", description="Train the demo policy.")
    parser.add_argument("--output", required=True, help="folder for the checkpoint and its log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4600)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--right", type=float, default=0.5, help="share of arithmetic examples that are right")
    parser.add_argument("--clean", type=float, default=0.4, help="share of the training before any is wrong")
    parser.add_argument("--walk-share", type=float, default=0.25, help="share of batches that are walks")
    parser.add_argument("--retry", type=float, default=0.8, help="share of failed attempts that are tried again")
    parser.add_argument("--problems", type=int, default=500, help="development problems per task for the log")
    return parser


if __name__ == "__main__":
    main()
