r"""
Losses of ELHSR on rewards $R$ of completions with labels $y \in \{0, 1\}$.

Grouped losses compare completions of one prompt; `groups` has the index of each completion's prompt. All functions
return a scalar.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

CompletionRewards = Float[Tensor, " completions"]
Groups = Int[Tensor, " completions"]


def bce_loss(rewards: CompletionRewards, labels: CompletionRewards, groups: Groups) -> Float[Tensor, ""]:
    r"""
    Return the binary cross-entropy with $R$ as logit of a correct completion, the paper's default.

    Example:
    ```python
    >>> bce_loss(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([0]))  # log 2
    tensor(0.6931)
    ```
    """
    return F.binary_cross_entropy_with_logits(rewards, labels)


def hinge_loss(rewards: CompletionRewards, labels: CompletionRewards, groups: Groups) -> Float[Tensor, ""]:
    r"""
    Return the hinge loss, $\operatorname{mean} \max(0, 1 - (2y-1) R)$.

    Example:
    ```python
    >>> hinge_loss(torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([0, 0]))
    tensor(0.2500)
    ```
    """
    return (1 - (2 * labels - 1) * rewards).clamp(min=0).mean()


def pairwise_loss(rewards: CompletionRewards, labels: CompletionRewards, groups: Groups) -> Float[Tensor, ""]:
    r"""
    Return the pairwise loss, mean over all pairs of a correct $i$ and a wrong $j$ of the same prompt.

    $$ L = -\log\sigma(R_i - R_j) $$

    The loss and its gradient are zero if no prompt has both.
    """
    pairs = (labels[:, None] > labels[None]) & (groups[:, None] == groups[None])
    losses = -F.logsigmoid(rewards[:, None] - rewards[None])
    return losses.masked_fill(~pairs, 0).sum() / pairs.sum().clamp(min=1)


def infonca_loss(
    rewards: CompletionRewards, labels: CompletionRewards, groups: Groups, alpha: float = 0.01
) -> Float[Tensor, ""]:
    r"""
    Return the InfoNCA loss, mean over prompts.

    $$ L = -\sum_i \operatorname{softmax}(y/\alpha)_i \log\operatorname{softmax}(R)_i $$

    Prompts without a correct completion are ignored, because their soft target would be uniform.
    """
    losses = []
    for group in _usable_groups(labels, groups):
        target = (labels[group] / alpha).softmax(-1)
        losses.append(-(target * rewards[group].log_softmax(-1)).sum())
    return torch.stack(losses).mean() if losses else rewards.sum() * 0


def nca_loss(
    rewards: CompletionRewards, labels: CompletionRewards, groups: Groups, alpha: float = 0.01
) -> Float[Tensor, ""]:
    r"""
    Return the NCA loss of prompts with $K$ completions, mean over prompts.

    $$ L = -\sum_i [\operatorname{softmax}(y/\alpha)_i \log\sigma(R_i) + \frac{1}{K} \log\sigma(-R_i)] $$

    Prompts without a correct completion are ignored.
    """
    losses = []
    for group in _usable_groups(labels, groups):
        target = (labels[group] / alpha).softmax(-1)
        own = rewards[group]
        losses.append(-(target * F.logsigmoid(own) + F.logsigmoid(-own) / len(own)).sum())
    return torch.stack(losses).mean() if losses else rewards.sum() * 0


def _usable_groups(labels: Tensor, groups: Tensor) -> list[Tensor]:
    members = [groups == group for group in groups.unique()]
    return [member for member in members if member.sum() > 1 and labels[member].any()]


def count_items(loss_type: str, labels: CompletionRewards) -> int:
    """
    Return the number of items in the loss of one prompt: its candidates, its pairs, or 1.

    Example:
    ```python
    >>> [count_items(name, torch.tensor([1.0, 0.0, 0.0])) for name in ("bce", "pairwise", "nca")]
    [3, 2, 1]
    ```
    """
    if loss_type == "pairwise":
        return int((labels[:, None] > labels[None]).sum())
    if loss_type in ("infonca", "nca"):
        return len(_usable_groups(labels, torch.zeros_like(labels, dtype=torch.long)))
    return len(labels)


LOSSES = {
    "bce": bce_loss,
    "step_bce": bce_loss,  # on the rewards of steps
    "hinge": hinge_loss,
    "pairwise": pairwise_loss,
    "infonca": infonca_loss,
    "nca": nca_loss,
    "centroids": bce_loss,  # of the fitted head, in evaluation
}
