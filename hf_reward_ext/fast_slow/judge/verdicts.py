"""Kinds of verdicts: the better of two responses, yes or no, or a rating."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from hf_reward_ext.base.options import check_choice

VerdictKind = Literal["pairwise", "binary", "rating"]

# Suggested by the error message when a tokenizer splits the given verdicts.
ALTERNATIVES: dict[str, list[tuple[str, ...]]] = {
    "pairwise": [("A", "B"), ("1", "2"), ("a", "b"), ("X", "Y"), ("first", "second"), ("left", "right")],
    "binary": [("Yes", "No"), ("yes", "no"), ("True", "False"), ("Y", "N"), ("good", "bad"), ("1", "0")],
    "rating": [tuple("12345"), tuple("0123456789"), tuple("ABCDE"), tuple("abcde")],
}
_BINARY = {("yes", "no"), ("true", "false"), ("y", "n"), ("good", "bad"), ("correct", "incorrect")}


def verdict_kind(verdicts: Sequence[str], kind: VerdictKind | None = None) -> VerdictKind:
    """
    Return the kind of a set of verdict strings.

    Args:
        verdicts (`Sequence[str]`): Two or more different strings.
        kind (`str`, *optional*): Kind, `"pairwise"`, `"binary"` or `"rating"`, if the strings do not determine it.

    Returns:
        `str`: `"rating"` for numbers, `"binary"` for yes and no (the favorable one first), `"pairwise"` for any other
        two (the verdict for the response shown first comes first).

    Raises:
        TypeError: If `verdicts` is not a list of strings.
        ValueError: If there are fewer than two, repeated ones, more than the kind allows, or more than two that are not
            numbers.

    Example:
    ```python
    >>> verdict_kind(("A", "B")), verdict_kind(("Yes", "No")), verdict_kind(("1", "2", "3"))
    ('pairwise', 'binary', 'rating')
    ```
    """
    if isinstance(verdicts, str) or not isinstance(verdicts, Sequence) or not all(isinstance(v, str) for v in verdicts):
        raise TypeError(f"`verdicts` must be a list of strings, got {verdicts!r}. Pass for example ('A', 'B').")
    if len(verdicts) < 2 or len(set(verdicts)) < len(verdicts) or not all(verdict.strip() for verdict in verdicts):
        raise ValueError(
            f"`verdicts` must be two or more different strings, got {tuple(verdicts)}. Pass for example ('A', 'B')."
        )
    if kind is not None:
        check_choice("kind", kind, get_args(VerdictKind))
        if kind != "rating" and len(verdicts) > 2:
            raise ValueError(
                f"`verdicts` of `kind={kind!r}` must be two, got {tuple(verdicts)}. Pass two, or `kind='rating'` with "
                "the worst verdict first."
            )
        return kind
    if all(verdict.isdigit() for verdict in verdicts):
        return "rating"
    if tuple(verdict.strip().lower() for verdict in verdicts) in _BINARY:
        return "binary"
    if len(verdicts) == 2:
        return "pairwise"
    raise ValueError(
        f"`verdicts` of more than two strings must be numbers, got {tuple(verdicts)}. Pass numbers, or `kind='rating'` "
        "with the worst verdict first."
    )


def verdict_values(verdicts: Sequence[str], kind: VerdictKind) -> torch.Tensor | None:
    """
    Return the value of each rating in [-1, 1], or `None` for two verdicts, whose score is a log-odds.

    Numbers are scaled by value, other strings by index.

    Example:
    ```python
    >>> verdict_values(("1", "2", "3"), "rating")
    tensor([-1.,  0.,  1.])
    ```
    """
    if kind != "rating":
        return None
    numeric = all(verdict.isdigit() for verdict in verdicts)
    values = torch.tensor([float(verdict) if numeric else float(index) for index, verdict in enumerate(verdicts)])
    return 2 * (values - values.min()) / (values.max() - values.min()) - 1


def favors(verdict: int, values: torch.Tensor | None) -> bool:
    """
    Return whether a verdict favors the response: the first of two, or the upper half of the ratings.

    Args:
        verdict (`int`): Index of the verdict.
        values (`torch.Tensor`, *optional*): See [`verdict_values`].

    Example:
    ```python
    >>> favors(0, None), favors(0, torch.tensor([-1.0, 1.0]))
    (True, False)
    ```
    """
    return verdict == 0 if values is None else values[verdict].item() > 0
