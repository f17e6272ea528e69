"""Masks of real tokens and of completions for joined texts without masks."""

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def without_padding(input_ids: Int[Tensor, "batch seq"], pad_token_id: int | None) -> Int[Tensor, "batch seq"]:
    """
    Return an attention mask for texts without one: `pad_token_id` at either end is padding, inside a text it is not.

    Example:
    ```python
    >>> without_padding(torch.tensor([[0, 5, 0, 6, 0]]), 0)
    tensor([[0, 1, 1, 1, 0]])
    ```
    """
    if pad_token_id is None:
        return torch.ones_like(input_ids)
    real = (input_ids != pad_token_id).long()
    return real.cummax(-1).values & real.flip(-1).cummax(-1).values.flip(-1)


Occurrence = Literal["first", "last"]


def completion_after(
    input_ids: Int[Tensor, "batch seq"],
    is_text: Bool[Tensor, "batch seq"],
    start_ids: Sequence[int] | None,
    occurrence: Occurrence = "last",
) -> Bool[Tensor, "batch seq"]:
    """
    Return the tokens that follow `start_ids` in each row; the whole text if they do not occur.

    Args:
        input_ids (`torch.Tensor` of shape `(batch, seq)`): Prompts and completions, padded on either side.
        is_text (`torch.Tensor` of shape `(batch, seq)`): `False` on padding.
        start_ids (`list[int]`, *optional*): Ids that end every prompt, see [`find_completion_start`].
        occurrence (`str`, *optional*, defaults to `"last"`): `"first"` or `"last"` occurrence in a row.

    Returns:
        `torch.Tensor` of shape `(batch, seq)`, bool.

    Example:
    ```python
    >>> completion_after(torch.tensor([[3, 9, 4, 9, 5]]), torch.ones(1, 5).bool(), [9])
    tensor([[False, False, False, False,  True]])
    ```
    """
    if not start_ids or len(start_ids) > input_ids.shape[1]:
        return is_text
    length = len(start_ids)
    found = (input_ids.unfold(-1, length, 1) == torch.tensor(start_ids, device=input_ids.device)).all(-1)
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    starts = places[: found.shape[1]]
    if occurrence == "first":
        begin = torch.where(found, starts, input_ids.shape[1]).amin(-1, keepdim=True) + length
    else:
        begin = torch.where(found, starts, -length).amax(-1, keepdim=True) + length
    after = (places >= begin) & is_text
    return torch.where(after.any(-1, keepdim=True), after, is_text)


def fill_masks(
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Tensor | None,
    completion_mask: Tensor | None,
    pad_token_id: int | None,
    start_ids: Sequence[int] | None,
    occurrence: Occurrence = "last",
) -> tuple[Tensor, Tensor]:
    """Return attention and completion mask, filled by [`without_padding`] and [`completion_after`]."""
    if attention_mask is None:
        attention_mask = without_padding(input_ids, pad_token_id)
    if completion_mask is None:
        completion_mask = completion_after(input_ids, attention_mask.bool(), start_ids, occurrence)
    return attention_mask, completion_mask


def find_completion_start(
    prompts: Sequence[Sequence[int]], special_ids: Collection[int]
) -> tuple[list[int] | None, Occurrence]:
    """
    Return the ids after which completions begin, if ids inside a completion cannot be confused with them.

    An ending with a special token (a chat's assistant header) is searched from the end of a text, which skips earlier
    turns. Other endings ("?") may also occur in a completion. If no prompt contains the ending earlier, the first
    occurrence counts. Otherwise the ending must have several tokens, and its last occurrence counts.

    Args:
        prompts (`list[list[int]]`): Prompts of the training data.
        special_ids (`set[int]`): Ids of the tokenizer's special tokens.

    Returns:
        Ids and occurrence for [`completion_after`]; `(None, "last")` without a reliable ending.

    Example:
    ```python
    >>> find_completion_start([[5, 6, 9], [7, 9]], special_ids=set())
    ([9], 'first')
    ```
    """
    ending = common_ending(prompts)
    if ending is None:
        return None, "last"
    if not set(ending).isdisjoint(special_ids):
        return ending, "last"
    if not any(_holds(prompt[:-1], ending) for prompt in prompts):
        return ending, "first"
    return (ending if len(ending) > 1 else None), "last"


def _holds(ids: Sequence[int], wanted: list[int]) -> bool:
    return any(ids[start : start + len(wanted)] == wanted for start, first in enumerate(ids) if first == wanted[0])


def common_ending(prompts: Sequence[Sequence[int]], longest: int = 16) -> list[int] | None:
    """
    Return the ids that all prompts end with, or `None`.

    Example:
    ```python
    >>> common_ending([[5, 6, 9], [7, 9]])
    [9]
    ```
    """
    ending: list[int] = []
    for tokens in zip(*(reversed(prompt[-longest:]) for prompt in prompts), strict=False):
        if len(set(tokens)) > 1:
            break
        ending.insert(0, tokens[0])
    return ending or None
