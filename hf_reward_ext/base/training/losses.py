"""Pairwise losses on the rewards of a chosen and a rejected completion, one value per pair."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

PairRewards = Float[Tensor, " batch"]


def bradley_terry_loss(
    chosen: PairRewards,
    rejected: PairRewards,
    *,
    margin: PairRewards | float = 0.0,
    beta: float = 1.0,
    gamma: float = 0.0,
    label_smoothing: float = 0.0,
) -> PairRewards:
    r"""
    Return the negative log-likelihood of the preferences in the Bradley-Terry model.

    $$ L = -(1-\epsilon) \log\sigma(h) - \epsilon \log\sigma(-h), \quad h = \beta (r^+ - r^-) - \gamma - m $$

    Args:
        chosen, rejected (`torch.Tensor` of shape `(batch,)`): PairRewards $r^+$ and $r^-$.
        margin (`torch.Tensor` of shape `(batch,)`, *optional*): $m$, in scaled reward units.
        beta (`float`, *optional*): Scale of the rewards.
        gamma (`float`, *optional*): Margin $\gamma$ of all pairs, in scaled reward units.
        label_smoothing (`float`, *optional*): $\epsilon$, the probability that a label is wrong.

    Returns:
        `torch.Tensor` of shape `(batch,)`.

    Example:
    ```python
    >>> bradley_terry_loss(torch.tensor([1.0]), torch.tensor([1.0]))  # log 2
    tensor([0.6931])
    ```
    """
    scaled = beta * (chosen - rejected) - gamma - margin
    if label_smoothing == 0:
        return -F.logsigmoid(scaled)
    return -(1 - label_smoothing) * F.logsigmoid(scaled) - label_smoothing * F.logsigmoid(-scaled)


def hinge_pair_loss(
    chosen: PairRewards, rejected: PairRewards, *, margin: PairRewards | float = 0.0, beta: float = 1.0
) -> PairRewards:
    r"""
    Return the hinge loss of each pair, with the arguments of [`bradley_terry_loss`].

    $$ L = \max(0, 1 - (\beta (r^+ - r^-) - m)) $$

    Example:
    ```python
    >>> hinge_pair_loss(torch.tensor([0.5]), torch.tensor([0.0]))
    tensor([0.5000])
    ```
    """
    return (1 - (beta * (chosen - rejected) - margin)).clamp(min=0)
