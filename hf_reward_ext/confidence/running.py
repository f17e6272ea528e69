"""Running rewards of rows from one value per token, with constant memory."""

from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Running(Protocol):
    """Running value of each row, updated with every token."""

    def update(self, values: Float[Tensor, " rows"], is_written: Bool[Tensor, " rows"]) -> None:
        """Add one token of each row; rows with padding do not change."""
        ...

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep the selected rows only."""
        ...

    def value(self) -> Float[Tensor, " rows"]:
        """Return the current value of each row; NaN before its first token."""
        ...


class RunningSum:
    """
    Running sum, or mean, of the values of a row.

    Args:
        zeros (`torch.Tensor` of shape `(rows,)`): Zeros of the type and device of the values.
        is_mean (`bool`, *optional*, defaults to `True`): Whether the sum is divided by the number of tokens.
    """

    def __init__(self, zeros: Float[Tensor, " rows"], is_mean: bool = True):
        self.total, self.count = zeros.clone(), zeros.clone()
        self.is_mean = is_mean

    def update(self, values: Float[Tensor, " rows"], is_written: Bool[Tensor, " rows"]) -> None:
        self.total = self.total + values.masked_fill(~is_written, 0)
        self.count = self.count + is_written

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        self.total, self.count = self.total[rows], self.count[rows]

    def value(self) -> Float[Tensor, " rows"]:
        return self.total / self.count if self.is_mean else self.total


class RunningLowest:
    """
    Running minimum of the mean of `window` consecutive values; the mean of fewer values.

    Args:
        zeros (`torch.Tensor` of shape `(rows,)`): Zeros of the type and device of the values.
        window (`int`): Number of tokens of a group, and of values stored per row.
    """

    def __init__(self, zeros: Float[Tensor, " rows"], window: int):
        self.window = window
        self.recent = zeros.new_zeros(len(zeros), window)
        self.count = torch.zeros_like(zeros, dtype=torch.long)
        self.lowest = torch.full_like(zeros, torch.inf)

    def update(self, values: Float[Tensor, " rows"], is_written: Bool[Tensor, " rows"]) -> None:
        slot = (self.count % self.window)[:, None]
        added = self.recent.scatter(1, slot, values[:, None])
        self.recent = torch.where(is_written[:, None], added, self.recent)
        self.count = self.count + is_written
        is_full = is_written & (self.count >= self.window)
        lowest = torch.minimum(self.lowest, self.recent.mean(-1))
        self.lowest = torch.where(is_full, lowest, self.lowest)

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        self.recent, self.count, self.lowest = self.recent[rows], self.count[rows], self.lowest[rows]

    def value(self) -> Float[Tensor, " rows"]:
        return torch.where(self.count >= self.window, self.lowest, self.recent.sum(-1) / self.count)
