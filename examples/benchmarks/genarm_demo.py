"""
GenARM on a demo task, compared with a control that only sharpens the policy:
`python examples/benchmarks/genarm_demo.py --policies DIR DIR --weak DIR DIR --split test`.

Each policy has three guides, trained on pairs of its samples: a copy of the policy that prefers correct answers,
another copy that prefers answers with fewer `*` (on the walk task: `+`), and a smaller language model of the task (two
fifths of the parameters) that prefers correct answers. The control is the policy alone at temperature 1 / (1 + alpha),
without a guide. Intervals: 95 %, bootstrap over the problems of all policies; differences are paired.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars

from hf_reward_ext import GenARMConfig, GenARMLogitsProcessor, GenARMTrainer
from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import Rollouts, sample
from hf_reward_ext.evaluation import mean_with_interval

GUIDES = ("ARM", "style ARM", "untrained weak model", "weak ARM")
FRONT = (0.0, 0.25, 0.5, 0.75, 1.0)
TASKS = {"arithmetic": arithmetic, "walk": walk}
SHUNNED = {"arithmetic": "*", "walk": "+"}


def shunned(text: str, task: str) -> int:
    """Count the symbol of the task's style in the last attempt."""
    return text.split("/")[-1].count(SHUNNED[task])


def pairs(rollouts: Rollouts, better) -> Dataset:
    """
    Return pairs of the best and the worst sample of each problem with equally many attempts, if they differ.

    Otherwise a second attempt would mostly be in the rejected text, and the guide would learn to avoid the form of
    second attempts, and repeat the first attempt.
    """
    rows = []
    for prompt, texts in zip(rollouts.prompts, rollouts.completions, strict=True):
        for attempts in (1, 2):
            alike = [text for text in texts if text.count("/") == attempts - 1]
            scores = [better(prompt, text) for text in alike]
            if len(set(scores)) > 1:
                chosen, rejected = alike[int(np.argmax(scores))], alike[int(np.argmin(scores))]
                rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return Dataset.from_list(rows)


def train(start: Path | None, rows: Dataset, seed: int, args):
    """Train a guide, and return it with the seconds of training."""
    guide, tokenizer = load_policy(start)
    with TemporaryDirectory() as scratch:
        config = GenARMConfig(
            scratch, beta=args.beta, learning_rate=args.learning_rate, max_steps=args.steps,
            per_device_train_batch_size=args.batch_size, activation_checkpointing=False, report_to="none", seed=seed,
            logging_strategy="no", save_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = GenARMTrainer(guide, config, train_dataset=rows, processing_class=tokenizer)
        started = time.perf_counter()
        trainer.train()
    return trainer.model.eval(), time.perf_counter() - started


@torch.no_grad()
def decode(policy, tokenizer, task: str, prompts, guides=None, alpha=0.0, temperature: float = 0.0, samples: int = 1):
    """Return the shares of correct answers and the mean count of the style's symbol, each of shape (problems,)."""
    settings: dict = dict(do_sample=False)
    if temperature:
        settings = dict(do_sample=True, top_k=0, temperature=temperature, num_return_sequences=samples)
    processors = [GenARMLogitsProcessor(guides, alpha=alpha)] if guides is not None else []
    right, count = [], []
    for start in range(0, len(prompts), 100):
        batch = prompts[start : start + 100]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        out = policy.generate(
            **inputs, max_new_tokens=TASKS[task].MAX_NEW_TOKENS, logits_processor=processors, **settings
        )
        texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        each = len(texts) // len(batch)
        right += [TASKS[task].is_correct(batch[number // each], text) for number, text in enumerate(texts)]
        count += [shunned(text, task) for text in texts]
    return np.reshape(right, (len(prompts), -1)).mean(1), np.reshape(count, (len(prompts), -1)).mean(1)


def of_policy(folder: Path | None, weak_folder: Path, seed: int, args) -> dict:
    """Return all measurements of one policy: method -> (correct, style's symbols) per problem."""
    policy, tokenizer = load_policy(folder)
    task = TASKS[args.task]
    torch.manual_seed(seed)
    found = sample(
        policy, tokenizer, prompts_of(task, "train", args.num_train), task, num_candidates=4, prompts_per_batch=100,
        show_progress=False,
    )  # fmt: skip
    by_success = pairs(found, task.is_correct)
    by_style = pairs(found, lambda _, text: -shunned(text, args.task))
    data = {"ARM": (folder, by_success), "style ARM": (folder, by_style), "weak ARM": (weak_folder, by_success)}
    guides = {"untrained weak model": load_policy(weak_folder)[0]}
    for name, (start, rows) in data.items():
        guides[name], seconds = train(start, rows, seed, args)
        share = guides[name].num_parameters() / policy.num_parameters()
        print(f"{name}: {len(rows)} pairs, {seconds:.0f} s, {share:.3f} of the parameters", flush=True)
    prompts = prompts_of(task, args.split, args.num_problems, args.slice)
    on_prompts = (policy, tokenizer, args.task, prompts)
    found = {"alpha 0": decode(*on_prompts, temperature=1.0, samples=args.samples)}
    found["alpha 0, greedy"] = decode(*on_prompts)
    for alpha in args.alphas:
        found[f"sharpened, alpha {alpha}"] = decode(*on_prompts, temperature=1 / (1 + alpha), samples=args.samples)
        for name, guide in guides.items():
            found[f"{name}, alpha {alpha}"] = decode(*on_prompts, guide, alpha, 1.0, args.samples)
            found[f"{name}, alpha {alpha}, greedy"] = decode(*on_prompts, guide, alpha)
    both = [guides["ARM"], guides["style ARM"]]
    for style in FRONT:
        found[f"front {style}"] = decode(*on_prompts, both, [1 - style, style], 1.0, args.samples)
    return {way: [values.tolist() for values in value] for way, value in found.items()}


def report(results: list[dict], args) -> None:
    def values(way: str, kind: int = 0) -> np.ndarray:
        return np.concatenate([result[way][kind] for result in results])

    def cell(numbers: np.ndarray) -> str:
        return str(mean_with_interval(numbers))

    symbol = SHUNNED[args.task]
    print(f"\n| way | sampled | minus sharpening | greedy | minus alpha 0 | `{symbol}` per sampled answer |")
    print("|---|---:|---:|---:|---:|---:|")
    alone, greedy_alone = values("alpha 0"), values("alpha 0, greedy")
    print(f"| alpha 0 | {cell(alone)} | | {cell(greedy_alone)} | | {values('alpha 0', 1).mean():.2f} |")
    for alpha in args.alphas:
        control = values(f"sharpened, alpha {alpha}")
        count = values(f"sharpened, alpha {alpha}", 1).mean()
        print(f"| sharpened, T = {1 / (1 + alpha):.2f} | {cell(control)} | | | | {count:.2f} |")
        for name in GUIDES:
            way = f"{name}, alpha {alpha}"
            sampled, greedy = values(way), values(f"{way}, greedy")
            print(
                f"| {way} | {cell(sampled)} | {cell(sampled - control)} | {cell(greedy)} | "
                f"{cell(greedy - greedy_alone)} | {values(way, 1).mean():.2f} |"
            )
    print(f"\n| weights (right, style) | sampled | `{symbol}` per answer |\n|---|---:|---:|")
    for style in FRONT:
        way = f"front {style}"
        print(f"| {1 - style:.3g}, {style:.3g} | {cell(values(way))} | {cell(values(way, 1))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policies", nargs="+", type=Path, default=[None], help="folders of policies; default: the demo policy"
    )
    parser.add_argument(
        "--weak", nargs="+", type=Path, default=[], help="folders of smaller models, one for each policy"
    )
    parser.add_argument("--task", choices=TASKS, default="arithmetic")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--num-train", type=int, default=16000)
    parser.add_argument("--num-problems", type=int, default=500)
    parser.add_argument("--slice", type=int, default=0, help="0: the first problems of the split, 1: the next, ...")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--beta", type=float, default=0.3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--alphas", nargs="+", type=float, default=[0.25, 0.5, 1.0])
    parser.add_argument("--seed", type=int, default=0, help="random seed of the first policy's samples and trainings")
    parser.add_argument("--results", type=Path, help="JSON file of all values")
    parser.add_argument("--report", nargs="+", type=Path, help="only report the values in files of `--results`")
    args = parser.parse_args()
    disable_progress_bars()
    if args.report:
        return report([result for file in args.report for result in json.loads(file.read_text())], args)
    if len(args.weak) != len(args.policies):
        parser.error(f"{len(args.weak)} smaller models for {len(args.policies)} policies: give one each with --weak.")
    results = [
        of_policy(*folders, args.seed + number, args)
        for number, folders in enumerate(zip(args.policies, args.weak, strict=True))
    ]
    if args.results:
        args.results.write_text(json.dumps(results))
    report(results, args)


if __name__ == "__main__":
    main()
