"""Completions of the same prompt in a batch of a trainer."""

from collections.abc import Sequence

from accelerate import PartialState


def group_rows(name: str, prompts: Sequence[str], num_generations: int | None) -> dict[str, list[int]]:
    """
    Return the rows of each prompt.

    Args:
        name (`str`): Name of the reward, for messages.
        prompts (`list[str]`): Prompt of each row.
        num_generations (`int`, *optional*): Number of completions per prompt, of which each group has a multiple.

    Raises:
        ValueError: If a group is not whole.
        RuntimeError: With several processes and without `num_generations`: a group may be divided among them.

    Example:
    ```python
    >>> group_rows("duels", ["a", "b", "a"], None)
    {'a': [0, 2], 'b': [1]}
    ```
    """
    if num_generations is None and PartialState().num_processes > 1:
        raise RuntimeError(
            f"`num_generations` must be given to `{name}` with {PartialState().num_processes} processes, which may "
            "divide the completions of a prompt among them. Pass that of the trainer."
        )
    groups: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(row)
    for prompt, rows in groups.items():
        if num_generations is not None and len(rows) % num_generations:
            raise ValueError(
                f"`{name}` must get all {num_generations} completions of a prompt in the same batch, got {len(rows)} "
                f"of {prompt[:80]!r}. Set `per_device_train_batch_size` to a multiple of `num_generations`."
            )
    return groups
