"""Preference pairs of sampled walks: right over wrong walks, or few `+` over many."""

import random
from collections.abc import Callable

from datasets import Dataset

from hf_reward_ext.demo.sampling import Rollouts

PAIRS_PER_PROMPT = 2


def pairs_by_success(rollouts: Rollouts, seed: int) -> Dataset:
    """Return random pairs of a right and a wrong walk of one prompt."""
    rng, rows = random.Random(seed), []
    for prompt, texts, correct in zip(rollouts.prompts, rollouts.completions, rollouts.correct, strict=True):
        right, wrong = ([text for text, own in zip(texts, correct, strict=True) if own == side] for side in (1, 0))
        for _ in range(min(PAIRS_PER_PROMPT, len(right), len(wrong))):
            rows.append({"prompt": prompt, "chosen": rng.choice(right), "rejected": rng.choice(wrong)})
    return Dataset.from_list(rows)


def pairs_by(score: Callable[[str], float], rollouts: Rollouts) -> Dataset:
    """Return the walk with the highest and with the lowest score of each prompt, if they differ."""
    rows = []
    for prompt, texts in zip(rollouts.prompts, rollouts.completions, strict=True):
        chosen, rejected = max(texts, key=score), min(texts, key=score)
        if score(chosen) > score(rejected):
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return Dataset.from_list(rows)
