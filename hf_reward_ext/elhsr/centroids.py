"""A head without training: which of two centroids the mean features of a completion are closer to."""

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_reward_ext.elhsr.model import ELHSRModel


@torch.no_grad()
def fit_centroids(
    head: ELHSRModel, batches: Iterable[Mapping[str, Tensor]], reduce: Callable[[Tensor], Tensor] = lambda total: total
) -> None:
    r"""
    Set the weights of a linear head without a gate, in place, to the difference of distances to two centroids.

    $$ R = \lVert m - c_0 \rVert^2 - \lVert m - c_1 \rVert^2 = 2 (c_1 - c_0)^\top m + \lVert c_0 \rVert^2 -
    \lVert c_1 \rVert^2 $$

    After [CLUE](https://openreview.net/forum?id=U9P92YUrDz), reconstructed: $m$ is the mean of the features of a
    completion's tokens (CLUE uses the difference of the states at the ends of the reasoning), and $c_1$ and $c_0$ are
    the means of $m$ over correct and wrong completions. With shares as labels $y$ they are weighted by $y$ and $1 - y$.

    Args:
        head ([`ELHSRModel`]): Head without a gate and hidden layer. Features are standardized if it standardizes them.
        batches: Batches with `features` `(completions, seq, features)`, `completion_mask` `(completions, seq)` and
            `labels`, of any shape, NaN where there is none.
        reduce (`callable`, *optional*): Function that sums a tensor over processes.

    Raises:
        ValueError: If no completion is correct, or none is wrong.
    """
    sums = torch.zeros(2, head.config.num_features, dtype=torch.float64)
    counts = torch.zeros(2, dtype=torch.float64)
    for batch in batches:
        labels = batch["labels"][~batch["labels"].isnan()].double().cpu()
        means = _means(head, batch["features"], batch["completion_mask"]).double().cpu()
        weights = torch.stack([1 - labels, labels])
        sums += weights @ means
        counts += weights.sum(-1)
    sums, counts = reduce(sums), reduce(counts)
    if not counts.all():
        raise ValueError(
            f"`train_dataset` must have correct and wrong completions for centroids, got {counts[1]:g} correct and "
            f"{counts[0]:g} wrong. Add the others."
        )
    wrong, right = sums / counts[:, None]
    head.linear.weight.copy_(2 * (right - wrong)[None])
    head.linear.bias.copy_((wrong.square().sum() - right.square().sum())[None])


def _means(
    head: ELHSRModel, features: Float[Tensor, "completions seq features"], mask: Bool[Tensor, "completions seq"]
) -> Float[Tensor, "completions features"]:
    total = torch.where(mask[..., None], features.float(), 0).sum(1)
    means = total / mask.sum(-1, keepdim=True)
    if head.config.standardize:
        means = (means - head.feature_mean.to(means.device)) / head.feature_scale.to(means.device)
    return means
