"""Rankings that a judge writes, and the rewards that they give."""

import re
from collections.abc import Sequence

Ranking = list[list[int]]
"""Indices from best to worst; equal ones share a place."""

_LINE = re.compile(r"Ranking:[ \t]*(.+)")


def read_ranking(text: str, count: int) -> Ranking | None:
    """
    Return the ranking in the last line `Ranking: 2 > 1 = 3` of a judgment.

    Args:
        text (`str`): Judgment, with numbers from 1, `>` or `,` between places and `=` between equal answers.
        count (`int`): Number of ranked answers.

    Returns:
        `list` of `list[int]`, or `None` unless the line has every number exactly once.

    Example:
    ```python
    >>> read_ranking("Both are right.\\nRanking: 2 > 1 = 3", 3)
    [[1], [0, 2]]
    ```
    """
    lines = _LINE.findall(text)
    if not lines:
        return None
    places = [re.split(r"\s*=\s*", place.strip()) for place in re.split("[>,]", lines[-1].strip().rstrip("."))]
    numbers = [number for place in places for number in place]
    if sorted(numbers) != sorted(map(str, range(1, count + 1))):
        return None
    return [[int(number) - 1 for number in place] for place in places]


def rank_rewards(ranking: Sequence[Sequence[int]]) -> list[float]:
    r"""
    Return a reward from 0 (worst) to 1 (best) for each ranked answer, with mean ranks for equal ones.

    $$ r_i = 1 - \frac{\operatorname{rank}_i}{n - 1} $$

    A single answer, and answers that are all equal, get 0.5, which is the mean of every ranking.

    Args:
        ranking (`list` of `list[int]`): Indices from best to worst, each once.

    Example:
    ```python
    >>> rank_rewards([[1], [0, 2]])
    [0.25, 1.0, 0.25]
    ```
    """
    count = sum(map(len, ranking))
    rewards, before = [0.5] * count, 0
    for place in ranking:
        rank = before + (len(place) - 1) / 2
        for index in place:
            rewards[index] = 1 - rank / (count - 1) if count > 1 else 0.5
        before += len(place)
    return rewards
