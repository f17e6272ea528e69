"""Scoring of texts alone, in batches, and with padding on either side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

Ids = Sequence[Sequence[int]]

# Effect of rounding: a share of the largest reward, and a minimum size, because small rewards are differences of larger
# numbers, whose rounding dominates.
_HALF = {torch.bfloat16: (4e-2, 1.0), torch.float16: (1e-2, 1.0)}
_SINGLE = (1e-4, 0.1)


class Probe:
    """
    Reward model and texts, the input of every check.

    Args:
        model: Model with `logits` of the shape (batch, 1).
        tokenizer: Its tokenizer.
        rows (`list[list[int]]`): Token ids of the texts.
        batch_size (`int`): Number of texts per batch.
        tolerance (`float`, *optional*): Maximum accepted difference between two scores of one text. Default: the effect
            of rounding in the model's float type.
    """

    def __init__(self, model, tokenizer, rows: Ids, batch_size: int, tolerance: float | None = None):
        self.model = model
        self.tokenizer = tokenizer
        self.rows = [list(row) for row in rows]
        self.batch_size = batch_size
        self._tolerance = tolerance

    @cached_property
    def alone(self) -> Float[Tensor, " rows"]:
        """Rewards of the texts, each in a batch of one."""
        return self.rewards(self.rows, batch_size=1)

    @cached_property
    def ragged(self) -> list[list[int]]:
        """Texts together with truncated ones, so that lengths differ within every batch."""
        cut = [row[: max(2, len(row) // 2)] for row in self.rows]
        return [row for pair in zip(self.rows, cut, strict=True) for row in pair]

    @cached_property
    def ragged_alone(self) -> Float[Tensor, " rows"]:
        return self.rewards(self.ragged, batch_size=1)

    @property
    def tolerance(self) -> float:
        if self._tolerance is not None:
            return self._tolerance
        dtype = next((one.dtype for one in self.model.parameters() if one.is_floating_point()), torch.float32)
        share, least = _HALF.get(dtype, _SINGLE)
        return share * max(float(self.alone.abs().max()), least)

    def rewards(
        self, rows: Ids, side: str = "right", batch_size: int | None = None, model=None
    ) -> Float[Tensor, " rows"]:
        """
        Return raw rewards `logits[:, 0]`, in double precision on the CPU.

        Args:
            rows (`list[list[int]]`): Token ids.
            side (`str`): Padding side of shorter rows.
            batch_size (`int`, *optional*): Number of texts per batch. Default: that of the probe.
            model (*optional*): Model to use instead of that of the probe.

        Raises:
            ValueError: If the model does not give one logit per text.
        """
        model = self.model if model is None else model
        size = batch_size or self.batch_size
        with _evaluating(model):
            parts = [self._forward(model, rows[start : start + size], side) for start in range(0, len(rows), size)]
        return torch.cat(parts)

    def _forward(self, model, rows: Ids, side: str) -> Float[Tensor, " rows"]:
        pad = self.tokenizer.pad_token_id
        ids = _padded(rows, 0 if pad is None else pad, side)
        mask = _padded([[1] * len(row) for row in rows], 0, side)
        device = next(model.parameters()).device
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        if logits.shape != (len(rows), 1):
            raise ValueError(
                f"`{type(model).__name__}` gives logits of the shape {tuple(logits.shape)} for {len(rows)} texts, but "
                "a reward model gives one per text. Load it with `AutoModelForSequenceClassification` and "
                "`num_labels=1`."
            )
        return logits[:, 0].double().cpu()


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference between two scores of the same texts; NaN counts as infinite."""
    return float((one - other).abs().nan_to_num(nan=torch.inf).max())


@contextmanager
def _evaluating(model) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _padded(rows: Ids, value: int, side: str) -> Tensor:
    width = max(map(len, rows))
    fill = [[value] * (width - len(row)) for row in rows]
    return torch.tensor(
        [[*blank, *row] if side == "left" else [*row, *blank] for row, blank in zip(rows, fill, strict=True)]
    )
