"""Which tokens of a joined text are real, and which are its completion, where nobody says so."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def without_padding(input_ids: Int[Tensor, "batch seq"], pad_token_id: int | None) -> Int[Tensor, "batch seq"]:
    """
    An attention mask for texts that come without: `pad_token_id` at either end is padding, inside a text it is not.

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


def completion_after(
    input_ids: Int[Tensor, "batch seq"], is_text: Bool[Tensor, "batch seq"], start_ids: Sequence[int] | None
) -> Bool[Tensor, "batch seq"]:
    """
    The tokens behind the last occurrence of `start_ids` in each row; the whole text where there is none.

    Args:
        input_ids (`torch.Tensor` of shape `(batch, seq)`): Prompts and completions, padded on either side.
        is_text (`torch.Tensor` of shape `(batch, seq)`): `False` on padding.
        start_ids (`list[int]`, *optional*): Ids that end every prompt, see [`common_ending`].

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
    begin = torch.where(found, places[: found.shape[1]], -length).amax(-1, keepdim=True) + length
    behind = (places >= begin) & is_text
    return torch.where(behind.any(-1, keepdim=True), behind, is_text)


def fill_masks(
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Tensor | None,
    completion_mask: Tensor | None,
    pad_token_id: int | None,
    start_ids: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """Attention and completion mask, where they are not given those of [`without_padding`], [`completion_after`]."""
    if attention_mask is None:
        attention_mask = without_padding(input_ids, pad_token_id)
    if completion_mask is None:
        completion_mask = completion_after(input_ids, attention_mask.bool(), start_ids)
    return attention_mask, completion_mask


def common_ending(prompts: Sequence[Sequence[int]], longest: int = 16) -> list[int] | None:
    """
    The ids that all prompts end with; `None` without any.

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
