"""Steps of a text, and the aggregation of their rewards."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from hf_reward_ext.base.options import check_callable, check_choice

Splitter = Callable[[str], Sequence[str]]
Aggregation = Literal["min", "last", "mean", "product"]
AGGREGATIONS = ("min", "last", "mean", "product")
_SENTENCE_END = r"(?<=[.!?])\s+"


def split_steps(text: str, marks: str | Splitter = "\n\n") -> list[str]:
    r"""
    Split a text into steps, whose concatenation is the text.

    Args:
        text (`str`): Text.
        marks (`str` or `callable`, *optional*): Regular expression of what ends a step (the match belongs to the
            step), `"sentences"`, or a function from a text to its steps.

    Returns:
        `list[str]`: At least one step; text without a mark, and the rest after the last mark, are steps too.

    Raises:
        ValueError: If the expression is malformed or matches the empty text, or the steps of a function are not the
            text.

    Example:
    ```python
    >>> split_steps("6-1=5;5*3=15;15-3=12", ";")
    ['6-1=5;', '5*3=15;', '15-3=12']
    ```
    """
    if callable(marks):
        found = marks(text)
        steps = list(found) if isinstance(found, Iterable) else [found]
        if not all(isinstance(step, str) for step in steps) or "".join(steps) != text:
            raise ValueError(
                f"The steps of a text must make up the text, got {steps[:3]} for {text[:80]!r}. Return slices of it."
            )
    else:
        ends = [match.end() for match in splitter(marks).finditer(text) if match.end() > 0]
        places = [0, *ends, len(text)]
        steps = [text[start:end] for start, end in zip(places, places[1:], strict=False)]
    return [step for step in steps if step] or [text]


def check_marks(marks: str | Splitter) -> None:
    """
    Reject marks that cannot divide a text.

    Raises:
        TypeError: If a function does not take a text.
        ValueError: If an expression is malformed or matches the empty text.
    """
    if callable(marks):
        check_callable("marks", marks, ["text"])
    else:
        splitter(marks)


def splitter(marks: str) -> re.Pattern:
    """
    Return the regular expression of the ends of steps.

    Raises:
        ValueError: If it is malformed or matches the empty text.
    """
    try:
        pattern = re.compile(_SENTENCE_END if marks == "sentences" else marks)
    except (re.error, TypeError) as error:
        raise ValueError(f"`marks` must be a regular expression, got {marks!r} ({error}). Correct it.") from error
    if pattern.match(""):
        raise ValueError(f"`marks` must not match the empty text, got {marks!r}. Write what ends a step.")
    return pattern


def aggregate_steps(rewards: Sequence[float], aggregation: Aggregation) -> float:
    """
    Return the reward of a text from those of its steps.

    Args:
        rewards (`list[float]`): Reward of each step, at least one.
        aggregation (`str`): `"min"`, `"last"`, `"mean"` or `"product"`.

    Raises:
        ValueError: For another aggregation, or for no steps.

    Example:
    ```python
    >>> [aggregate_steps([0.5, 0.8], aggregation) for aggregation in ("min", "last", "product")]
    [0.5, 0.8, 0.4]
    ```
    """
    check_choice("aggregation", aggregation, AGGREGATIONS)
    if not rewards:
        raise ValueError("`rewards` must have the reward of at least one step, got none.")
    if aggregation == "min":
        return min(rewards)
    if aggregation == "last":
        return rewards[-1]
    return math.prod(rewards) if aggregation == "product" else sum(rewards) / len(rewards)
