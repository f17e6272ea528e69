"""Reward of stage 2: whether a written judgment ends with a correct verdict."""

import re
from collections.abc import Sequence


def slow_verdict_reward(
    completions: Sequence, right_verdicts: Sequence[Sequence[str]], final_marker: Sequence[str] | str, **kwargs
) -> list[float]:
    """
    Return 1 for judgments with a correct final verdict and -1 for others; length does not matter.

    Reward function for TRL's `GRPOTrainer`, with the columns of [`counterfactual_prefixes`]. As in the judge, the first
    marker counts, and the verdict must follow it directly.

    Args:
        completions (`list` of `str` or messages): Written judgments.
        right_verdicts (`list` of `list[str]`): Correct final verdicts of each row.
        final_marker (`list[str]` or `str`): Text before the final verdict.
        **kwargs: Other columns, which are ignored.

    Returns:
        `list[float]`: One reward per completion.

    Example:
    ```python
    >>> slow_verdict_reward([" 2+2=4.\\nFinal: A", " Hm."], [["A"], ["A"]], "\\nFinal:")
    [1.0, -1.0]
    ```
    """
    markers = [final_marker] * len(completions) if isinstance(final_marker, str) else final_marker
    return [
        1.0 if final_verdict(_content(completion), marker) in right else -1.0
        for completion, right, marker in zip(completions, right_verdicts, markers, strict=True)
    ]


def final_verdict(text: str, final_marker: str) -> str | None:
    """
    Return the word after the first marker, or `None`.

    Example:
    ```python
    >>> final_verdict("so A.\\nFinal: B", "\\nFinal:")
    'B'
    ```
    """
    marker = final_marker.rstrip()
    if marker not in text:
        return None
    match = re.match(r"\s*(\w+|\S)", text[text.index(marker) + len(marker) :])
    return match[1] if match else None


def _content(completion) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
