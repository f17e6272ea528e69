"""Split of training data into training and validation prompts."""

from datasets import Dataset


def split_by_prompt(groups: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """
    Split groups of candidates so that no prompt is on both sides.

    Args:
        groups (`Dataset`): Rows with `prompt_ids`, of at least two prompts.
        fraction (`float`): Share of the prompts that is held out.
        seed (`int`): Random seed of the split.

    Returns:
        Rows for training, and rows for validation.

    Example:
    ```python
    >>> groups = Dataset.from_dict({"prompt_ids": [[1], [2], [1]]})
    >>> [part["prompt_ids"][:] for part in split_by_prompt(groups, 0.5, seed=0)]
    [[[2]], [[1], [1]]]
    ```
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for number, ids in enumerate(groups["prompt_ids"]):
        rows_of.setdefault(tuple(ids), []).append(number)
    parts = Dataset.from_dict({"rows": list(rows_of.values())}).train_test_split(test_size=fraction, seed=seed)
    train, held_out = (groups.select([row for own in parts[part]["rows"] for row in own]) for part in ("train", "test"))
    return train, held_out
