"""Preference pairs of the chat model's own samples: a response that follows the constraints, and one that does not."""

import random

from datasets import Dataset

from examples.demo_llm.sampling import Candidate


def preference_pairs(samples: list[list[Candidate]], count: int, seed: int, per_problem: int = 3) -> list[dict]:
    """
    Return at most `count` pairs, with the index of their problem.

    Args:
        samples (`list[list[Candidate]]`): Candidates of each problem.
        count (`int`): Maximum number of pairs.
        seed (`int`): Random seed of the choice.
        per_problem (`int`): Maximum number of pairs per problem; each has other responses.

    Returns:
        `list[dict]` with `index`, `chosen` and `rejected`, which are candidates.
    """
    rng = random.Random(seed)
    pairs = []
    for index, group in enumerate(samples):
        right, wrong = ([one for one in group if one.is_right == is_right and one.text] for is_right in (True, False))
        rng.shuffle(right)
        rng.shuffle(wrong)
        pairs += [
            {"index": index, "chosen": good, "rejected": bad}
            for good, bad in zip(right[:per_problem], wrong[:per_problem], strict=False)
            if good.text != bad.text
        ]
    rng.shuffle(pairs)
    return pairs[:count]


def as_ids(pairs: list[dict]) -> Dataset:
    """Return the pairs as rows of token ids, exactly as they were sampled."""
    return Dataset.from_list(
        [
            {
                "prompt_ids": pair["chosen"].prompt_ids,
                "chosen_ids": pair["chosen"].completion_ids,
                "rejected_ids": pair["rejected"].completion_ids,
            }
            for pair in pairs
        ]
    )
