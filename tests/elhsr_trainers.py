"""Trainers of small heads on rows that a head can tell apart."""

import random

from datasets import Dataset
from tiny import tiny_tokenizer

from hf_reward_ext.elhsr import ELHSRConfig, ELHSRTrainer


def labeled_rows(prompts=24, candidates=4, seed=0):
    """Correct completions say w11, wrong ones w17: a head can tell them apart by one token."""
    rng = random.Random(seed)
    rows = []
    for _ in range(prompts):
        prompt = " ".join(f"w{rng.randrange(20)}" for _ in range(4))
        for _ in range(candidates):
            label = rng.random() < 0.5
            rows.append(
                {"prompt": prompt, "completion": " " + " ".join(["w11" if label else "w17"] * rng.randint(1, 3)),
                 "label": label}
            )  # fmt: skip
    return rows


def trainer_for(policy, output_dir, rows=None, **settings):
    defaults = dict(
        learning_rate=2e-2, num_train_epochs=4, per_device_train_batch_size=4, report_to="none", disable_tqdm=True,
        use_cpu=True, standardize=settings.get("feature_cache") != "none",
    )  # fmt: skip
    dataset = Dataset.from_list(labeled_rows()) if rows is None else rows
    return ELHSRTrainer(
        policy, ELHSRConfig(str(output_dir), **{**defaults, **settings}), train_dataset=dataset,
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
