"""What a verdict can be: the better of two responses, yes or no, or a number on a scale."""

from typing import Literal

import torch

VerdictKind = Literal["pairwise", "binary", "scale"]

# Offered by the error message when a tokenizer splits the asked verdicts.
ALTERNATIVES: dict[str, list[tuple[str, ...]]] = {
    "pairwise": [("A", "B"), ("1", "2"), ("a", "b"), ("X", "Y"), ("first", "second"), ("left", "right")],
    "binary": [("Yes", "No"), ("yes", "no"), ("True", "False"), ("Y", "N"), ("good", "bad"), ("1", "0")],
    "scale": [tuple("12345"), tuple("0123456789"), tuple("ABCDE"), tuple("abcde")],
}
_BINARY = {("yes", "no"), ("true", "false"), ("y", "n"), ("good", "bad"), ("correct", "incorrect")}


def verdict_kind(verdicts: tuple[str, ...]) -> VerdictKind:
    """
    What a set of verdict strings means.

    Args:
        verdicts (`tuple` of `str`): Two or more different strings.

    Returns:
        `str`: `"scale"` for numbers, `"binary"` for yes and no (the favourable one first), `"pairwise"` for any other
        two (the verdict for the response shown first comes first).

    Raises:
        ValueError: If there are fewer than two, repeated ones, or more than two that are not numbers.

    Example:
    ```python
    >>> verdict_kind(("A", "B")), verdict_kind(("Yes", "No")), verdict_kind(("1", "2", "3"))
    ('pairwise', 'binary', 'scale')
    ```
    """
    if len(verdicts) < 2 or len(set(verdicts)) < len(verdicts):
        raise ValueError(
            f"`verdicts={verdicts}` was given, but a verdict is a choice among two or more different strings. "
            "Pass for example ('A', 'B')."
        )
    if all(verdict.isdigit() for verdict in verdicts):
        return "scale"
    if tuple(verdict.strip().lower() for verdict in verdicts) in _BINARY:
        return "binary"
    if len(verdicts) == 2:
        return "pairwise"
    raise ValueError(
        f"`verdicts={verdicts}` are {len(verdicts)} strings that are not numbers, so their worth is unknown. "
        "Pass numbers, or `kind='scale'` with the worst verdict first."
    )


def verdict_values(verdicts: tuple[str, ...], kind: VerdictKind) -> torch.Tensor | None:
    """
    Worth of each verdict of a scale, mapped to [-1, 1]; `None` for two verdicts, whose score is a log-odds.

    Numbers count by their value, other strings by their place.

    Example:
    ```python
    >>> verdict_values(("1", "2", "3"), "scale")
    tensor([-1.,  0.,  1.])
    ```
    """
    if kind != "scale":
        return None
    numeric = all(verdict.isdigit() for verdict in verdicts)
    values = torch.tensor([float(verdict) if numeric else float(place) for place, verdict in enumerate(verdicts)])
    return 2 * (values - values.min()) / (values.max() - values.min()) - 1


def favours(place: int, values: torch.Tensor | None) -> bool:
    """
    Whether a verdict speaks for the response: the first of two, or the upper half of a scale.

    Args:
        place (`int`): Of the verdict.
        values (`torch.Tensor`, *optional*): See [`verdict_values`].

    Example:
    ```python
    >>> favours(0, None), favours(0, torch.tensor([-1.0, 1.0]))
    (True, False)
    ```
    """
    return place == 0 if values is None else values[place].item() > 0
