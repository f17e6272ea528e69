"""
Two objectives, one policy, weights chosen at run time: `python examples/genarm_pareto.py`.

One guide prefers correct answers, the other one answers with fewer `*`. Weights change between calls, without
reloading. The control without a guide is the policy at temperature 1 / (1 + sum of weights).
"""

import argparse

import torch
from datasets import Dataset

from hf_reward_ext import GenARMConfig, GenARMLogitsProcessor, GenARMTrainer
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.evaluation import share_with_interval
from hf_reward_ext.evaluation.plots import Point, plot_trade_off


def pairs(rollouts, better) -> Dataset:
    """Return the best and the worst completion of each prompt, if they differ."""
    rows = []
    for prompt, texts in zip(rollouts.prompts, rollouts.completions, strict=True):
        low, high = (pick(texts, key=lambda text, prompt=prompt: better(prompt, text)) for pick in (min, max))
        if better(prompt, low) < better(prompt, high):
            rows.append({"prompt": prompt, "chosen": high, "rejected": low})
    return Dataset.from_list(rows)


def train(rows: Dataset, folder: str, steps: int):
    guide, tokenizer = load_policy()
    config = GenARMConfig(
        folder, beta=0.3, learning_rate=3e-4, max_steps=steps, per_device_train_batch_size=16, report_to="none",
        logging_strategy="no", save_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    trainer = GenARMTrainer(guide, config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return trainer.model.eval()


def measure(policy, tokenizer, prompts, name: str, **settings) -> Point:
    """Print and return the share of correct answers with its interval, and the mean number of `*` in an answer."""
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    out = policy.generate(**inputs, max_new_tokens=arithmetic.MAX_NEW_TOKENS, do_sample=True, top_k=0, **settings)
    texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    right = [arithmetic.is_correct(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    stars, accuracy = sum(text.split("/")[-1].count("*") for text in texts) / len(texts), share_with_interval(right)
    print(f"{name}: right {accuracy}, * per answer {stars:.2f}")
    return Point(stars, accuracy, name)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("--num-train", 1500), ("--num-test", 500), ("--steps", 300)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--plot", help="file for the front, for example pareto.png")
    args = parser.parse_args(argv)
    policy, tokenizer = load_policy()
    torch.manual_seed(0)
    found = sample(policy, tokenizer, prompts_of(arithmetic, "train", args.num_train), arithmetic, num_candidates=8)
    right = train(pairs(found, arithmetic.is_correct), "outputs/right", args.steps)
    plain = train(pairs(found, lambda _, text: -text.count("*")), "outputs/plain", args.steps)
    prompts, processor = prompts_of(arithmetic, "test", args.num_test), GenARMLogitsProcessor([right, plain])
    series = {"guides, weights": [], "policy alone": []}
    for style in (0.0, 0.25, 0.5, 0.75, 1.0):
        processor.alpha = [1.0 - style, style]
        name = f"{1 - style:g}, {style:g}"
        series["guides, weights"].append(measure(policy, tokenizer, prompts, name, logits_processor=[processor]))
    for temperature in (1.0, 0.5):
        name = f"T = {temperature}"
        series["policy alone"].append(measure(policy, tokenizer, prompts, name, temperature=temperature))
    if args.plot:
        plot_trade_off(series, args.plot, "* per answer", "two guides, weights of: right, fewer *")


if __name__ == "__main__":
    main()
