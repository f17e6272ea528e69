"""Token ids that end or fill rows, and the padding of prompts; the only module that decides them."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def token_ids(value: int | Iterable[int] | Tensor | None) -> list[int]:
    """
    Return the token ids of a setting as a list: configs hold a number, a list, a tensor or nothing.

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
    try:
        values = torch.as_tensor(
            list(value) if isinstance(value, Iterable) and not isinstance(value, Tensor) else value
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Token ids must be integers, got {value!r}. Pass an integer or a list of integers.") from error
    if values.numel() and (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool):
        raise TypeError(f"Token ids must be integers, got {value!r}. Pass an integer or a list of integers.")
    return [int(one) for one in values.flatten()]


def eos_token_ids(generation_config, tokenizer=None) -> list[int]:
    """
    Return all ids that end a row.

    Args:
        generation_config (`GenerationConfig`): Effective generation settings.
        tokenizer (*optional*): Tokenizer, used if the settings have no id.
    """
    ids = token_ids(getattr(generation_config, "eos_token_id", None))
    return ids or token_ids(getattr(tokenizer, "eos_token_id", None))


def pad_token_id(generation_config, tokenizer=None) -> int | None:
    """
    Return the id that fills ended rows, by the rule that `generate` uses.

    It is the padding token of the settings, else that of the tokenizer, else the first EOS token.

    Args:
        generation_config (`GenerationConfig`): Effective generation settings.
        tokenizer (*optional*): Tokenizer, used if the settings have no id.

    Returns:
        `int`, or `None` without a padding and an EOS token.
    """
    found = [
        *token_ids(getattr(generation_config, "pad_token_id", None)),
        *token_ids(getattr(tokenizer, "pad_token_id", None)),
        *eos_token_ids(generation_config, tokenizer),
    ]
    return found[0] if found else None


def inferred_mask(input_ids: Int[Tensor, "rows seq"], generation_config) -> Int[Tensor, "rows seq"]:
    """
    Return the attention mask that `generate` infers: 0 on padding tokens, unless padding is also an EOS token.

    Args:
        input_ids (`torch.Tensor` of shape `(rows, seq)`): Prompts, padded on the left.
        generation_config (`GenerationConfig`): Effective generation settings.
    """
    pad = pad_token_id(generation_config)
    if pad is None or pad in eos_token_ids(generation_config):
        return torch.ones_like(input_ids)
    return (input_ids != pad).long()


def completion_mask_from_ids(
    completion_ids: Int[Tensor, "batch seq"], eos_token_ids: list[int], pad_token_id: int | None
) -> Bool[Tensor, "batch seq"]:
    """
    Return a mask of the tokens up to and including the first EOS, without trailing padding.

    Args:
        completion_ids (`torch.Tensor` of shape `(batch, seq)`): Tokens that `generate` appended to the prompt.
        eos_token_ids (`list[int]`): All ids that end a sequence; may be empty.
        pad_token_id (`int`, *optional*): Padding id, removed from the end of rows. Rows that were not ended by EOS
            (but by a stop string) are padded with it.

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
    Pad rows of unequal lengths on the left and return them as one batch.

    Args:
        rows (`list` of `list[int]`): Token ids of each row.
        pad_token_id (`int`): Id that fills short rows.
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
