"""Majority votes over the answers of candidates."""

from collections.abc import Awaitable, Hashable, Iterator, Sequence

import numpy as np


def majority_vote(
    answers: Sequence[Hashable | None], weights: Sequence[float] | None = None
) -> tuple[int | None, dict[Hashable, float]]:
    """
    Return the answer with the largest total weight.

    Args:
        answers (`list`): One answer per candidate; `None` is not counted.
        weights (`list[float]`, *optional*): Weight of each candidate, not negative. Default: 1.

    Returns:
        `(winner, tally)`: index of the first candidate with the winning answer (`None` without answers; ties go to the
        earlier answer), and the total weight of each answer.

    Raises:
        ValueError: If a weight is negative or the lengths differ.

    Example:
    ```python
    >>> majority_vote(["a", "b", None, "b"])
    (1, {'a': 1.0, 'b': 2.0})
    ```
    """
    weights = [1.0] * len(answers) if weights is None else list(weights)
    if len(weights) != len(answers) or any(weight < 0 for weight in weights):
        raise ValueError(
            f"`weights` must be one number of at least 0 for each of the {len(answers)} answers, got {weights}. "
            "Pass for example a softmax of the rewards."
        )
    tally: dict[Hashable, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            tally[answer] = tally.get(answer, 0.0) + weight
    if not tally:
        return None, tally
    return list(answers).index(max(tally, key=tally.__getitem__)), tally


def check_answer(answer: object) -> object:
    """
    Return an answer whose votes can be counted.

    Raises:
        TypeError: If it is not hashable, or equal ones would be different answers: a tensor, a coroutine, a generator.
        ValueError: If it is not equal to itself, as NaN.
    """
    try:
        hash(answer)
        is_equal = answer == answer
    except TypeError:
        is_equal = None
    if not isinstance(is_equal, bool | np.bool_) or isinstance(answer, Iterator | Awaitable):
        raise TypeError(
            f"`extract_answer` must return a hashable answer or `None`, got a `{type(answer).__name__}`. Return text "
            "or a number."
        )
    if not is_equal:
        raise ValueError(f"`extract_answer` must return `None` for no answer, got {answer!r}. Return `None`.")
    return answer
