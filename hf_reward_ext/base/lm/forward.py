"""The logits of the last positions alone."""

from typing import Any

import torch
from torch import Tensor

from hf_reward_ext.base.private_api import supports_logits_to_keep


def last_logits_only(model, count: int | Tensor, length: int) -> dict[str, Any]:
    """For a forward over `length` tokens: the keyword that leaves out other logits, nothing if the model has none."""
    if not supports_logits_to_keep(model):
        return {}
    return {"logits_to_keep": last_positions(count, length, model.device)}


def last_positions(count: int | Tensor, length: int, device: torch.device) -> int | Tensor:
    """
    What to pass as `logits_to_keep` for the last `count` of `length` positions (0: all); positions stay as they are.

    On a CPU a slice of several rows is strided, and a frozen LM head then copies its weights once per row: 480 ms
    where the product takes 5. Picked by their numbers, the positions are contiguous.

    Example:
    ```python
    >>> last_positions(2, 5, torch.device("cpu"))
    tensor([3, 4])
    ```
    """
    if isinstance(count, Tensor) or device.type != "cpu" or not 0 < count < length:
        return count
    return torch.arange(length - count, length)


def as_index(logits_to_keep: int | Tensor) -> slice | Tensor:
    """Picks the same positions from a tensor of them all."""
    return logits_to_keep if isinstance(logits_to_keep, Tensor) else slice(-logits_to_keep, None)
