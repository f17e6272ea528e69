"""Losses as sums over items, so that they do not depend on how items are split into batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


@dataclass(frozen=True)
class LossTerm:
    r"""
    Mean over items (such as pairs or tokens), stored as sum and count.

    $$ w \, \frac{\sum_i v_i}{\sum_i n_i} $$

    Args:
        name (`str`): Name in the log, where terms of the same name are added.
        values (`torch.Tensor` of shape `(rows,)`): $v$, the sum over the items of each row.
        counts (`torch.Tensor` of shape `(rows,)`): $n$, the number of items of each row.
        unit (`str`): Kind of item, a key of `BaseRewardTrainer._count_items`.
        weight (`float`, defaults to 1.0): Weight $w$, which is not applied in the log.
    """

    name: str
    values: Float[Tensor, " rows"]
    counts: Shaped[Tensor, " rows"]
    unit: str
    weight: float = 1.0


@dataclass(frozen=True)
class BatchLoss:
    """
    Loss, metrics and rewards of one batch.

    Args:
        terms (`list` of [`LossTerm`]): Summands of the loss.
        metrics (`dict` of `str` to `torch.Tensor` of shape `(rows,)`): Values to log, one per row of the data; or
            pairs of such tensors, the sums over the items of each row and the numbers of items.
        rewards (`torch.Tensor` of shape `(rows, ...)`): Predictions; for pairs `(pairs, 2)`, chosen first.
    """

    terms: Sequence[LossTerm]
    metrics: Mapping[str, Tensor | tuple[Tensor, Tensor]]
    rewards: Tensor

    def only(self, counted: Bool[Tensor, " rows"]) -> "BatchLoss":
        """Return the loss of selected rows."""

        def kept(values: Tensor) -> Tensor:
            return values.where(counted.to(values.device), 0)

        terms = [replace(term, values=kept(term.values), counts=kept(term.counts)) for term in self.terms]
        metrics = {
            name: tuple(map(kept, values)) if isinstance(values, tuple) else (kept(values), counted.to(values))
            for name, values in self.metrics.items()
        }
        return BatchLoss(terms, cast(Mapping, metrics), self.rewards)


def total_loss(terms: Sequence[LossTerm], items: Mapping[str, Tensor] | None = None) -> Float[Tensor, ""]:
    """
    Return the scalar loss.

    Args:
        terms (`list` of [`LossTerm`]): Summands.
        items (`dict` of `str` to scalar `torch.Tensor`, *optional*): Number of items by unit in all batches of an
            optimizer step. Default: those of this batch.

    Example:
    ```python
    >>> total_loss([LossTerm("loss", torch.tensor([1.0, 3.0]), torch.ones(2), "pairs")])
    tensor(2.)
    ```
    """
    means = []
    for term in terms:
        count = term.counts.sum() if items is None else items[term.unit]
        # A mean over devices may be a fraction, so only 0 is replaced.
        means.append(term.weight * term.values.sum() / torch.where(count > 0, count, torch.ones_like(count)))
    return sum(means[1:], means[0])
