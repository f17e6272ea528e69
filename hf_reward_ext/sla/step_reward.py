"""Sources of token rewards for the search: a channel, another head, a guide, or any callable."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from hf_reward_ext.base.lm.guide import CachedGuide
from hf_reward_ext.sla.channel import RewardChannel
from hf_reward_ext.sla.model import RewardTransformer


class ReadStep(NamedTuple):
    """
    Tokens that the search has just read.

    Attributes:
        input_ids (`torch.Tensor` of shape `(rows, seq)`): All tokens so far, padded on the left.
        attention_mask (`torch.Tensor` of shape `(rows, seq)`): 0 on padding.
        output (`ModelOutput`): Output of the forward over the last positions, with the hidden states in `layers`.
    """

    input_ids: Int[Tensor, "rows seq"]
    attention_mask: Int[Tensor, "rows seq"]
    output: Any


StepReward = Callable[[ReadStep], Tensor | tuple[Tensor, Tensor]]
"""Function that returns the rewards `(rows,)` of the last token of each row, or rewards and their weights in the mean.
An attribute `layers` lists the hidden states that it reads."""


class ChannelReward:
    """Reward of the last token by a [`RewardChannel`]."""

    def __init__(self, channel: RewardChannel):
        self.channel = channel
        self.layers = list(channel.config.layers)

    def __call__(self, step: ReadStep) -> Float[Tensor, " rows"]:
        return self.channel(_last_position(step))[:, -1]


class HeadReward:
    """Reward and gate of the last token by a head with `token_rewards(hidden_states)`, such as ELHSR's."""

    def __init__(self, head):
        if head.config.features != "hidden_states":
            raise ValueError(
                f"`reward` must be a head on hidden states, got one on {head.config.features!r}. Use a head with "
                "`features='hidden_states'`, or pass a callable."
            )
        self.head = head
        self.layers = list(head.config.layers)

    def __call__(self, step: ReadStep) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        gates, rewards = self.head.token_rewards(_last_position(step))
        return rewards[:, -1], gates[:, -1]


class GuideReward:
    """Log-probability, in nats, of the last token under an autoregressive reward model."""

    def __init__(self, guide):
        self.guide = CachedGuide(guide)

    def __call__(self, step: ReadStep) -> Float[Tensor, " rows"]:
        if step.input_ids.shape[1] == 1:
            return torch.zeros(len(step.input_ids))
        logits = self.guide.next_token_logits(step.input_ids[:, :-1], step.attention_mask[:, :-1])
        last = step.input_ids[:, -1:].to(logits.device)
        return logits.log_softmax(-1).gather(-1, last).squeeze(-1)


def resolve_reward(model, reward) -> tuple[Any, StepReward]:
    """
    Return the causal LM to run and the reward function of its steps.

    Args:
        model ([`RewardTransformer`] or any causal LM): Model whose `generate` was called.
        reward (*optional*): [`RewardTransformer`] or [`RewardChannel`] on the same base, a head on hidden states, a
            causal LM as autoregressive reward model, or a callable (see [`ReadStep`]). Default: the model's channel.

    Raises:
        ValueError: If there is no reward, or it belongs to another base.
        TypeError: If it is none of these, such as a reward of whole texts.
    """
    causal_lm = model.base if isinstance(model, RewardTransformer) else model
    if reward is None:
        if not isinstance(model, RewardTransformer):
            raise ValueError(
                f"`reward` must be given for a `{type(model).__name__}`, which has no token rewards, got None. "
                "Generate with a `RewardTransformer`, or pass `reward=`."
            )
        reward = model
    if isinstance(reward, RewardTransformer):
        if reward.base is not causal_lm:
            reward.reward_channel.check_base(causal_lm)
        return causal_lm, ChannelReward(reward.reward_channel)
    if isinstance(reward, RewardChannel):
        reward.check_base(causal_lm)
        return causal_lm, ChannelReward(reward)
    if hasattr(reward, "token_rewards") and hasattr(reward, "check_policy"):
        reward.check_policy(causal_lm)
        return causal_lm, HeadReward(reward)
    if hasattr(reward, "generation_config") and not reward.config.is_encoder_decoder:
        return causal_lm, GuideReward(reward)
    if not _reads_steps(reward):
        raise TypeError(
            "`reward` must be a `RewardTransformer`, a head on hidden states, a causal LM or a callable on a "
            f"`ReadStep`, got a `{type(reward).__name__}`: the search needs the reward of each token. Pass one of them."
        )
    return causal_lm, reward  # pyright: ignore[reportReturnType]


def _reads_steps(reward) -> bool:
    """Return whether an object can be called with one step, unlike models and rewards of completions."""
    if not callable(reward) or inspect.isclass(reward) or isinstance(reward, PreTrainedModel):
        return False
    try:
        inspect.signature(reward).bind(None)
    except TypeError:
        return False
    return True


def _last_position(step: ReadStep) -> list[Tensor | None]:
    states = step.output.hidden_states
    return [None if state is None else state[:, -1:] for state in states]
