"""Mean token reward of completions, for models with a reward of each token."""

from typing import Any

import torch
from torch import Tensor

from hf_reward_ext.base.lm.forward import positions_of
from hf_reward_ext.base.scoring.completion import CompletionScorer
from hf_reward_ext.base.training.token_rewards import masked_mean, prefix_means
from hf_reward_ext.genarm.model import GenARMRewardModel
from hf_reward_ext.rewards.model_reward import ModelReward
from hf_reward_ext.sla.model import RewardTransformer


class TokenRewardMean(ModelReward):
    r"""
    Mean reward of the tokens of a completion, by a channel (SLA) or an autoregressive reward model (GenARM).

    $$ r = \frac{1}{T} \sum_{t=1}^{T} r_t $$

    For a [`RewardTransformer`] it is the reward that [`ModelReward`] gives too; the reward of a [`GenARMRewardModel`]
    is a sum otherwise, which grows with the length of the completion.

    Args:
        model ([`RewardTransformer`] or [`GenARMRewardModel`]): Model with token rewards.
        tokenizer: Tokenizer of the model.
        batch_size, device, cache_size, name (*optional*): See [`ModelReward`].

    Raises:
        TypeError: For other models.

    Example:
    ```python
    >>> GRPOTrainer(policy, reward_funcs=TokenRewardMean(reward_transformer, tokenizer), args=args, ...)
    ```
    """

    def __init__(
        self,
        model: RewardTransformer | GenARMRewardModel,
        tokenizer: Any,
        *,
        batch_size: int = 16,
        device: torch.device | str | None = None,
        cache_size: int = 10000,
        name: str = "token_reward_mean",
    ):
        super().__init__(TokenMeanScorer(model, tokenizer, batch_size), device=device, cache_size=cache_size, name=name)


class TokenMeanScorer(CompletionScorer):
    """
    Scorer of completions by their mean token reward.

    Args:
        model ([`RewardTransformer`] or [`GenARMRewardModel`]): Model with token rewards.
        tokenizer: Tokenizer of the model.
        batch_size (`int`, *optional*, defaults to 16): Number of completions per forward.

    Raises:
        TypeError: For other models.
    """

    def __init__(self, model: RewardTransformer | GenARMRewardModel, tokenizer: Any, batch_size: int = 16):
        if not isinstance(model, RewardTransformer | GenARMRewardModel):
            raise TypeError(
                f"`model` must be a `RewardTransformer` or a `GenARMRewardModel`, which have token rewards, got a "
                f"`{type(model).__name__}`. Use `ModelReward` for other models."
            )
        reader = model.causal_lm if isinstance(model, GenARMRewardModel) else model.base
        super().__init__(model, tokenizer, batch_size, reader)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
        return masked_mean(token_rewards(self.model, input_ids, attention_mask, completion_mask), completion_mask)

    @property
    def reads_prefixes(self) -> bool:
        return True

    def prefix_rewards(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
        return prefix_means(token_rewards(self.model, input_ids, attention_mask, completion_mask), completion_mask)


def token_rewards(model, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
    """Return the reward of each token at its position, `(rows, seq)`."""
    if isinstance(model, GenARMRewardModel):
        return model.token_rewards(input_ids, attention_mask, completion_mask)
    positions = positions_of(attention_mask)
    return model(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False
    ).token_rewards
