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


def measure(policy, tokenizer, prompts, **settings) -> tuple[float, float]:
    """Return the share of correct answers, and the mean number of `*` in an answer."""
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    out = policy.generate(**inputs, max_new_tokens=arithmetic.MAX_NEW_TOKENS, do_sample=True, top_k=0, **settings)
    texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    right = [arithmetic.is_correct(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    return sum(right) / len(right), sum(text.split("/")[-1].count("*") for text in texts) / len(texts)


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
    prompts, points = prompts_of(arithmetic, "test", args.num_test), []
    processor = GenARMLogitsProcessor([right, plain])
    for style in (0.0, 0.25, 0.5, 0.75, 1.0):
        processor.alpha = [1.0 - style, style]
        points.append(measure(policy, tokenizer, prompts, logits_processor=[processor]))
        print(f"weights {processor.alpha}: right {points[-1][0]:.3f}, * per answer {points[-1][1]:.2f}")
    for temperature in (1.0, 0.5):
        accuracy, stars = measure(policy, tokenizer, prompts, temperature=temperature)
        print(f"policy alone at T = {temperature}: right {accuracy:.3f}, * per answer {stars:.2f}")
    if args.plot:
        from matplotlib import pyplot

        pyplot.plot([stars for _, stars in points], [accuracy for accuracy, _ in points], "o-")
        pyplot.gca().set(xlabel="* per answer", ylabel="share of right answers")
        pyplot.savefig(args.plot)


if __name__ == "__main__":
    main()
