"""Positions of the ends of steps among the tokens of a text."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

_HALF = "\ufffd"  # what a tokenizer decodes the first bytes of a character to


def find_step_ends(tokenizer: Any, ids: Sequence[int], steps: Sequence[str]) -> list[int]:
    """
    Return the index of the last token of each step.

    A token that ends one step and begins the next belongs to the first, and whitespace after a step to the step. The
    last step ends with the last token, EOS. Whitespace is not compared, as tokenizers and templates change it.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Tokenizer.
        ids (`list[int]`): Token ids of a text that ends with the steps.
        steps (`list[str]`): Steps.

    Raises:
        ValueError: If the ids are those of another text.

    Example:
    ```python
    >>> find_step_ends(tokenizer, tokenizer("2+2=4\\n4+2=6").input_ids, ["2+2=4\\n", "4+2=6"])
    [5, 10]
    ```
    """

    def read(count: int) -> str:
        return _visible(tokenizer.decode(ids[:count], skip_special_tokens=True))

    text = read(len(ids))
    start = text.rfind(_visible("".join(steps)).rstrip(_HALF))
    if start < 0:
        raise ValueError(
            f"The tokens of the steps must be those of their text, got {text[-80:]!r} for the steps {list(steps)[:3]}. "
            "Use a tokenizer whose `decode` returns the text."
        )
    counts = range(1, len(ids) + 1)

    def completing(length: int) -> int:
        return bisect_left(counts, length, key=lambda count: len(read(count).rstrip(_HALF)))

    def beginning(length: int) -> int:
        return bisect_left(counts, length, key=lambda count: len(read(count)))

    ends = []
    for step, length in zip(steps[:-1], accumulate(len(_visible(step)) for step in steps), strict=False):
        end = completing(start + length)
        has_space = step != step.rstrip()
        ends.append(max(end, beginning(start + length + 1) - 1) if has_space else end)
    return [*ends, len(ids) - 1]


def _visible(text: str) -> str:
    return "".join(text.split())
