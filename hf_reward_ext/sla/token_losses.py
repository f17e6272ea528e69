r"""
Losses of SLA on token rewards $r$ of chosen and rejected completions.

Masks are unshifted: position $t$ is that of token $y_t$ itself, EOS included. All functions return terms whose
means are the loss, see [`total_loss`]. They are computed with log-sigmoids, so that gradients of large rewards do not
vanish.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from hf_reward_ext.base.training.loss import LossTerm
from hf_reward_ext.base.training.losses import bradley_terry_loss
from hf_reward_ext.base.training.token_rewards import at_step_ends, masked_mean, masked_sum, prefix_means

TokenRewards = Float[Tensor, "batch seq"]
Mask = Bool[Tensor, "batch seq"]
Chosen = Float[Tensor, "batch chosen_seq"]
ChosenMask = Bool[Tensor, "batch chosen_seq"]
Rejected = Float[Tensor, "batch rejected_seq"]
RejectedMask = Bool[Tensor, "batch rejected_seq"]
Margins = Float[Tensor, " batch"]

NAME = "channel_loss"


def sequence_bt_loss(
    chosen: Chosen,
    chosen_mask: ChosenMask,
    rejected: Rejected,
    rejected_mask: RejectedMask,
    *,
    margin: Margins | float = 0.0,
) -> list[LossTerm]:
    r"""
    Return the Bradley-Terry loss on mean rewards, the paper's default with $m = 0$.

    $$ L = -\log\sigma(\bar r^+ - \bar r^- - m) $$

    Example:
    ```python
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> total_loss(sequence_bt_loss(torch.tensor([[1.0, 3.0]]), mask, torch.tensor([[2.0, 2.0]]), mask))  # log 2
    tensor(0.6931)
    ```
    """
    means = masked_mean(chosen, chosen_mask), masked_mean(rejected, rejected_mask)
    return [_of_pairs(bradley_terry_loss(*means, margin=margin))]


def sequence_ce_loss(
    chosen: Chosen, chosen_mask: ChosenMask, rejected: Rejected, rejected_mask: RejectedMask
) -> list[LossTerm]:
    r"""
    Return the cross-entropy loss on mean probabilities $P$ of $\sigma(r_t)$, mean over pairs.

    $$ L = -\tfrac12 [\log P^+ + \log (1 - P^-)] $$

    $1 - P$ is computed as the mean of $\sigma(-r_t)$.
    """
    return [_of_pairs(-(_log_mean_sigmoid(chosen, chosen_mask) + _log_mean_sigmoid(-rejected, rejected_mask)) / 2)]


def token_bt_loss(
    chosen: Chosen,
    chosen_mask: ChosenMask,
    rejected: Rejected,
    rejected_mask: RejectedMask,
    *,
    scale: float = 1.0,
    margin: Margins | float = 0.0,
) -> list[LossTerm]:
    r"""
    Return the Bradley-Terry loss on aligned tokens, mean over pairs.

    $$ L = \tfrac1T \sum_i -\log\sigma(a (r^+_i - r^-_i - b)) $$

    The i-th tokens of both completions are compared. The shorter completion is extended to the length $T$ of the
    longer one by repeating its last reward.

    Args:
        scale (`float`, defaults to 1): Scale $a$ of reward differences.
        margin (`float` or `torch.Tensor` of shape `(batch,)`, defaults to 0): Margin $b$ of reward
            differences.

    Example:
    ```python
    >>> both = torch.tensor([[True, True]])
    >>> total_loss(token_bt_loss(torch.ones(1, 2), torch.tensor([[False, True]]), torch.ones(1, 2), both))  # log 2
    tensor(0.6931)
    ```
    """
    (chosen_row, rejected_row), lengths = align_completions([chosen, rejected], [chosen_mask, rejected_mask])
    longest = torch.stack(lengths).amax(0)
    counted = torch.arange(chosen_row.shape[1], device=chosen.device) < longest[:, None]
    margins = margin[:, None] if isinstance(margin, Tensor) else margin
    losses = -F.logsigmoid(scale * (chosen_row - rejected_row - margins))
    return [_of_pairs(masked_mean(losses, counted))]


def token_ce_loss(
    chosen: Chosen, chosen_mask: ChosenMask, rejected: Rejected, rejected_mask: RejectedMask
) -> list[LossTerm]:
    r"""
    Return the cross-entropy loss on tokens, with means over all tokens of the batch.

    $$ L = -\tfrac12 [\operatorname{mean} \log\sigma(r^+_t) + \operatorname{mean} \log\sigma(-r^-_t)] $$
    """
    return [
        LossTerm(NAME, -masked_sum(F.logsigmoid(rewards), mask) / 2, mask.sum(-1), unit)
        for rewards, mask, unit in (
            (chosen, chosen_mask, "chosen_tokens"),
            (-rejected, rejected_mask, "rejected_tokens"),
        )
    ]


def step_bce_loss(rewards: Float[Tensor, "batch steps"], labels: Float[Tensor, "batch steps"]) -> LossTerm:
    r"""
    Return the cross-entropy of the rewards of steps, mean over all steps of the batch (ours).

    $$ L = -\operatorname{mean} [y_k \log\sigma(R_k) + (1 - y_k) \log\sigma(-R_k)] $$

    Args:
        rewards (`torch.Tensor` of shape `(batch, steps)`): $R_k$, see [`step_rewards`].
        labels (`torch.Tensor` of shape `(batch, steps)`): $y_k$ from 0 to 1; NaN fills rows with fewer steps.

    Example:
    ```python
    >>> total_loss([step_bce_loss(torch.tensor([[0.0, torch.nan]]), torch.tensor([[1.0, torch.nan]]))])  # log 2
    tensor(0.6931)
    ```
    """
    given = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(rewards.where(given, 0), labels.where(given, 0), reduction="none")
    return LossTerm(NAME, masked_sum(losses, given), given.sum(-1), "steps")


def step_rewards(
    rewards: TokenRewards, mask: Mask, step_ends: Int[Tensor, "batch steps"]
) -> Float[Tensor, "batch steps"]:
    """
    Return the mean token reward of the completion up to the end of each step; NaN where `step_ends` is -1.

    Example:
    ```python
    >>> step_rewards(torch.tensor([[1.0, 3.0]]), torch.tensor([[True, True]]), torch.tensor([[0, 1, -1]]))
    tensor([[1., 2., nan]])
    ```
    """
    return at_step_ends(prefix_means(rewards, mask), step_ends)


def align_completions(rewards: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """
    Align completion rewards to the left, and repeat the last reward after them.

    Returns:
        Rewards `(batch, longest)` of each side, and the lengths `(batch,)`.
    """
    lengths = [mask.sum(-1) for mask in masks]
    longest = int(torch.stack(lengths).max())
    rows = []
    for values, mask, length in zip(rewards, masks, lengths, strict=True):
        order = (~mask).to(torch.uint8).argsort(dim=-1, stable=True)  # completion positions first, in order
        index = torch.arange(longest, device=values.device).minimum(length[:, None] - 1).clamp(min=0)
        rows.append(values.gather(-1, order.gather(-1, index)))
    return rows, lengths


def _of_pairs(losses: Margins) -> LossTerm:
    return LossTerm(NAME, losses, torch.ones_like(losses), "pairs")


def _log_mean_sigmoid(rewards: TokenRewards, mask: Mask) -> Float[Tensor, " batch"]:
    logs = F.logsigmoid(rewards).masked_fill(~mask, -torch.inf)
    return logs.logsumexp(-1) - mask.sum(-1).clamp(min=1).to(logs.dtype).log()


LOSSES = {
    "sequence_bt": sequence_bt_loss,
    "token_bt": token_bt_loss,
    "sequence_ce": sequence_ce_loss,
    "token_ce": token_ce_loss,
}
