"""Token ids that end or fill rows, and the padding of prompts: the one place that decides them."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def token_ids(value: int | Iterable[int] | Tensor | None) -> list[int]:
    """
    Token ids of a setting as a list: configs hold a number, a list, a tensor or nothing.

    Args:
        value (`int`, `list[int]` or `torch.Tensor`, *optional*): An `eos_token_id`, for example.

    Raises:
        TypeError: If the value is not made of integers.

    Example:
    ```python
    >>> token_ids(2), token_ids([2, 7]), token_ids(None)
    ([2], [2, 7], [])
    ```
    """
    if value is None:
        return []
    values = torch.as_tensor(list(value) if isinstance(value, Iterable) and not isinstance(value, Tensor) else value)
    if values.numel() and (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool):
        raise TypeError(f"Token ids must be integers, got {value!r}. Pass an integer or a list of integers.")
    return [int(one) for one in values.flatten()]


def eos_token_ids(generation_config, tokenizer=None) -> list[int]:
    """
    Every id that ends a row.

    Args:
        generation_config (`GenerationConfig`): The settings in force.
        tokenizer (*optional*): Read where the settings name no id.
    """
    ids = token_ids(getattr(generation_config, "eos_token_id", None))
    return ids or token_ids(getattr(tokenizer, "eos_token_id", None))


def pad_token_id(generation_config, tokenizer=None) -> int | None:
    """
    The id that fills ended rows: the settings', else the tokenizer's, else the first EOS, as `generate` chooses it.

    Args:
        generation_config (`GenerationConfig`): The settings in force.
        tokenizer (*optional*): Read where the settings name no id.

    Returns:
        `int`, or `None` where there is neither a padding nor an EOS token.
    """
    found = [
        *token_ids(getattr(generation_config, "pad_token_id", None)),
        *token_ids(getattr(tokenizer, "pad_token_id", None)),
        *eos_token_ids(generation_config, tokenizer),
    ]
    return found[0] if found else None


def inferred_mask(input_ids: Int[Tensor, "rows seq"], generation_config) -> Int[Tensor, "rows seq"]:
    """
    The attention mask that `generate` uses where none is given: 0 on padding, if padding differs from every EOS.

    Args:
        input_ids (`torch.Tensor` of shape `(rows, seq)`): Prompts, padded on the left.
        generation_config (`GenerationConfig`): The settings in force.
    """
    pad = pad_token_id(generation_config)
    if pad is None or pad in eos_token_ids(generation_config):
        return torch.ones_like(input_ids)
    return (input_ids != pad).long()


def completion_mask_from_ids(
    completion_ids: Int[Tensor, "batch seq"], eos_token_ids: list[int], pad_token_id: int | None
) -> Bool[Tensor, "batch seq"]:
    """
    Which generated tokens belong to the completion: up to and with the first EOS, without trailing padding.

    Args:
        completion_ids (`torch.Tensor` of shape `(batch, seq)`): What `generate` appended to the prompt.
        eos_token_ids (`list[int]`): Every id that ends a sequence; may be empty.
        pad_token_id (`int`, *optional*): Trailing ids equal to it are dropped. A row that was stopped by something
            else than EOS (a stop string) is padded with it.

    Returns:
        `torch.Tensor` of shape `(batch, seq)`, bool.

    Example:
    ```python
    >>> completion_mask_from_ids(torch.tensor([[5, 2, 0], [5, 6, 7]]), [2], 0)
    tensor([[ True,  True, False],
            [ True,  True,  True]])
    ```
    """
    is_eos = torch.isin(completion_ids, torch.tensor(eos_token_ids, device=completion_ids.device))
    before_or_at_eos = is_eos.cumsum(-1) - is_eos.long() == 0
    if pad_token_id is None or pad_token_id in eos_token_ids:
        return before_or_at_eos
    trailing_pad = (completion_ids == pad_token_id).long().flip(-1).cumprod(-1).flip(-1).bool()
    return before_or_at_eos & ~trailing_pad


def left_padded(
    rows: Sequence[Sequence[int]], pad_token_id: int, device: torch.device | str | None = None
) -> tuple[Int[Tensor, "rows seq"], Int[Tensor, "rows seq"]]:
    """
    Rows of unequal lengths as one batch.

    Args:
        rows (`list` of `list[int]`): Token ids of each row.
        pad_token_id (`int`): Fills short rows on the left.
        device (`torch.device`, *optional*): Device of the result.

    Returns:
        `tuple` of two `torch.Tensor` of shape `(rows, seq)`: ids, and a mask with 0 on padding.

    Example:
    ```python
    >>> left_padded([[5, 6], [7]], 0)[0]
    tensor([[5, 6],
            [0, 7]])
    ```
    """
    width = max(map(len, rows))
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
