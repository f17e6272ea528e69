"""
Guidance by a model with two fifths of the policy's parameters: `python examples/genarm_weak_to_strong.py`.

The guide starts from a small language model of the task, which is trained first (18 minutes on a shared core;
`--weak DIR` loads a trained one). The controls are the policy alone at temperature 1 / (1 + alpha), which only
sharpens, and the small model as a guide before its training on preferences.
"""

import argparse

import torch
from datasets import Dataset

from hf_reward_ext import GenARMConfig, GenARMLogitsProcessor, GenARMTrainer
from hf_reward_ext.base.stats.pictures import drawn
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.demo.train import main as train_lm


def pairs(rollouts) -> Dataset:
    """Return a correct and a wrong sample of each problem that has both."""
    rows = []
    for prompt, texts, correct in zip(rollouts.prompts, rollouts.completions, rollouts.correct, strict=True):
        if correct.any() and not correct.all():
            rows.append({"prompt": prompt, "chosen": texts[correct.argmax()], "rejected": texts[correct.argmin()]})
    return Dataset.from_list(rows)


def accuracy(policy, tokenizer, prompts, **settings) -> float:
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    out = policy.generate(**inputs, max_new_tokens=arithmetic.MAX_NEW_TOKENS, do_sample=True, top_k=0, **settings)
    texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(map(arithmetic.is_correct, prompts, texts)) / len(prompts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--weak", None), ("--output", "outputs/weak_to_strong"), ("--plot", None)):
        parser.add_argument(name, default=default)
    for name, default in (("--num-train", 8000), ("--num-test", 500), ("--steps", 300), ("--weak-steps", 4600)):
        parser.add_argument(name, type=int, default=default)
    args = parser.parse_args(argv)
    weak = args.weak or f"{args.output}/language_model"
    if not args.weak:
        train_lm(["--output", weak, "--hidden-size=80", f"--steps={args.weak_steps}", f"--problems={args.num_test}"])
    policy, tokenizer = load_policy()
    torch.manual_seed(0)
    found = sample(policy, tokenizer, prompts_of(arithmetic, "train", args.num_train), arithmetic, num_candidates=4)
    config = GenARMConfig(
        args.output, beta=0.3, learning_rate=3e-4, max_steps=args.steps, per_device_train_batch_size=32,
        report_to="none", save_strategy="no", use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    trainer = GenARMTrainer(load_policy(weak)[0], config, train_dataset=pairs(found), processing_class=tokenizer)
    trainer.train()
    guides = {"before": load_policy(weak)[0], "weak ARM": trainer.model.eval()}
    share = guides["before"].num_parameters() / policy.num_parameters()
    print(f"The guide has {share:.2f} of the policy's parameters.")
    prompts, alphas = prompts_of(arithmetic, "test", args.num_test), (0.0, 0.25, 0.5, 1.0)
    curves: dict = {name: [] for name in ("sharpened", *guides)}
    for alpha in alphas:
        curves["sharpened"].append(accuracy(policy, tokenizer, prompts, temperature=1 / (1 + alpha)))
        for name, guide in guides.items():
            processors = [GenARMLogitsProcessor(guide, alpha=alpha)]
            curves[name].append(accuracy(policy, tokenizer, prompts, logits_processor=processors))
        print(f"alpha {alpha}: " + ", ".join(f"{name} {values[-1]:.3f}" for name, values in curves.items()))
    if args.plot:
        with drawn(args.plot, 5, 3.5) as figure:
            axes = figure.subplots()
            for name, values in curves.items():
                axes.plot(alphas, values, "o-", label=name)
            axes.set(xlabel="alpha", ylabel="share of right answers", ylim=(-0.02, 1.02))
            axes.legend()


if __name__ == "__main__":
    main()
