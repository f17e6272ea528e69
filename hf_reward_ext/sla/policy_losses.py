"""Losses of the policy on log-probabilities of chosen and rejected completions."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_reward_ext.base.training.loss import LossTerm
from hf_reward_ext.base.training.losses import bradley_terry_loss
from hf_reward_ext.base.training.token_rewards import masked_mean, masked_sum

TokenLogps = Float[Tensor, "batch seq"]
Mask = Bool[Tensor, "batch seq"]

NAME = "policy_loss"


def sft_loss(chosen: TokenLogps, chosen_mask: Mask) -> LossTerm:
    r"""
    Return the negative log-likelihood of the chosen tokens, $-\log\pi(y^+_t)$, as mean over the batch.

    Example:
    ```python
    >>> total_loss([sft_loss(torch.tensor([[-1.0, -3.0]]), torch.tensor([[True, True]]))])
    tensor(2.)
    ```
    """
    return LossTerm(NAME, -masked_sum(chosen, chosen_mask), chosen_mask.sum(-1), "chosen_tokens")


def simpo_loss(
    chosen: TokenLogps,
    chosen_mask: Mask,
    rejected: TokenLogps,
    rejected_mask: Mask,
    *,
    beta: float = 2.5,
    gamma_beta_ratio: float = 0.55,
) -> LossTerm:
    r"""
    Return the SimPO loss on the mean log-probabilities $\bar l$ of tokens.

    $$ L = -\log\sigma(\beta (\bar{l}^+ - \bar{l}^- - \gamma/\beta)) $$

    The defaults are those of the authors' code.
    """
    pairs = bradley_terry_loss(
        masked_mean(chosen, chosen_mask),
        masked_mean(rejected, rejected_mask),
        beta=beta,
        gamma=beta * gamma_beta_ratio,
    )
    return LossTerm(NAME, pairs, torch.ones_like(pairs), "pairs")


def dpo_loss(
    chosen: TokenLogps,
    chosen_mask: Mask,
    rejected: TokenLogps,
    rejected_mask: Mask,
    reference: Float[Tensor, " rows"],
    *,
    beta: float = 0.1,
) -> LossTerm:
    r"""
    Return the DPO loss on the log-probabilities $l$ of completions.

    $$ L = -\log\sigma(\beta [(l^+ - l_{ref}^+) - (l^- - l_{ref}^-)]) $$

    Args:
        reference (`torch.Tensor` of shape `(2 * batch,)`): Log-probabilities $l_{ref}$ of the chosen, then of the
            rejected completions.
        beta (`float`, defaults to 0.1): Scale $\beta$; a common value, since the paper does not state one.
    """
    reference_chosen, reference_rejected = reference.chunk(2)
    pairs = bradley_terry_loss(
        masked_sum(chosen, chosen_mask) - reference_chosen,
        masked_sum(rejected, rejected_mask) - reference_rejected,
        beta=beta,
    )
    return LossTerm(NAME, pairs, torch.ones_like(pairs), "pairs")
