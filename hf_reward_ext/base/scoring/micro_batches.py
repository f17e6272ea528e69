"""Forwards of many texts in parts, for callers that pass all texts at once."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed

TOKENS_PER_FORWARD = 4096
# With sharded weights every process must run the same number of forwards, but each has its own longest text.
_ROWS_OF_PROCESSES = 8


def in_micro_batches(compute: Callable[..., Tensor], tokens_per_forward: int, *rows: Tensor) -> Tensor:
    """
    Compute values of rows in parts of at most `tokens_per_forward` tokens, padding included, if no gradient is needed.

    TRL's trainers run a reward model on all completions of a step in a single call. With several processes parts have
    eight rows.

    Args:
        compute (`callable`): Function of a part of each tensor that returns a value or vector per row.
        tokens_per_forward (`int`): Maximum number of tokens in a part, which has at least one row.
        *rows (`torch.Tensor` of shape `(batch, seq)`): Tensors to divide along their rows.

    Example:
    ```python
    >>> with torch.no_grad():
    ...     in_micro_batches(lambda ids: ids.sum(-1), 4, torch.ones(4, 2))  # two rows at a time
    tensor([2., 2., 2., 2.])
    ```
    """
    count, width = rows[0].shape
    if torch.is_grad_enabled():
        size = count
    elif distributed.is_initialized() and distributed.get_world_size() > 1:
        size = _ROWS_OF_PROCESSES
    else:
        size = tokens_per_forward // max(width, 1)
    parts = zip(*(tensor.split(max(size, 1)) for tensor in rows), strict=True)
    return torch.cat([compute(*part) for part in parts])
