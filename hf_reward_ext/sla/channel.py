"""Reward channel: a small network next to the layers of a causal LM that computes a reward for every token."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from hf_reward_ext.base.lm.layers import check_streams
from hf_reward_ext.base.saving.base_pointer import check_base
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.saving.model import BaseRewardModel, tokenizer_path
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.sla.model_card import card_text
from hf_reward_ext.sla.model_config import RewardTransformerConfig


class ChannelNorm(nn.Module):
    """RMSNorm computed in float32 for any input type, as in the authors' model."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, values: Float[Tensor, "batch seq size"]) -> Float[Tensor, "batch seq size"]:
        if values.dtype == torch.float32:
            return nn.functional.rms_norm(values, self.weight.shape, self.weight, self.eps)
        return self.weight * nn.functional.rms_norm(values.float(), self.weight.shape, eps=self.eps).to(values.dtype)


class ChannelLayer(nn.Module):
    r"""
    Layer of the channel: $f(W \operatorname{RMSNorm}([h, c])) + c$, without $c$ in the first layer.

    The residual connection uses the channel before normalization.
    """

    def __init__(self, config: RewardTransformerConfig, is_first: bool):
        super().__init__()
        width = config.hidden_size + (0 if is_first else config.channel_size)
        self.norm = ChannelNorm(width, config.rms_norm_eps)
        self.linear = nn.Linear(width, config.channel_size, bias=False)
        self.activation = ACT2FN[config.hidden_act]

    def forward(
        self, hidden: Float[Tensor, "batch seq hidden"], channel: Float[Tensor, "batch seq channel"] | None
    ) -> Float[Tensor, "batch seq channel"]:
        if channel is None:
            return self.activation(self.linear(self.norm(hidden)))
        return self.activation(self.linear(self.norm(torch.cat([hidden, channel], dim=-1)))) + channel


class RewardChannel(BaseRewardModel):
    r"""
    Module that computes a reward for every token from the hidden states of a causal LM.

    $$ c_0 = f(W_0 N(h_0)), \quad c_i = f(W_i N([h_i, c_{i-1}])) + c_{i-1}, \quad r = w \cdot [h_L, c_{L-1}] $$

    Of [SLA](https://huggingface.co/papers/2503.00029), as in its published code: $N$ is RMSNorm over the whole
    concatenation, $f$ SiLU, $h_0$ the embedding, $h_L$ the state after the final norm. It has no attention and no
    cache: each position is computed separately. The authors' head has a second output that is not trained; ours has
        one.

    Args:
        config ([`RewardTransformerConfig`]): Sizes, layers, and the base model it belongs to.

    Example:
    ```python
    >>> channel = RewardChannel(RewardTransformerConfig(hidden_size=16, num_layers=3, channel_size=8))
    >>> channel(policy(**inputs, output_hidden_states=True).hidden_states)  # (batch, seq)
    ```
    """

    config: RewardTransformerConfig
    config_class = RewardTransformerConfig
    base_model_prefix = "reward_channel"
    _no_split_modules = []

    def __init__(self, config: RewardTransformerConfig):
        super().__init__(config)
        count = len(config.layers) - 1
        self.layers = nn.ModuleList([ChannelLayer(config, is_first=index == 0) for index in range(count)])
        width = config.hidden_size + (config.channel_size if count else 0)
        if config.head_size is None:
            self.head = nn.Sequential(nn.Linear(width, 1, bias=False))
        else:
            self.head = nn.Sequential(
                nn.Linear(width, config.head_size, bias=False),
                ACT2FN[config.hidden_act],
                nn.Linear(config.head_size, 1, bias=False),
            )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, ChannelNorm):
            nn.init.ones_(module.weight)

    def forward(self, hidden_states: Sequence[Tensor | None] | None) -> Float[Tensor, "batch seq"]:
        """
        Compute the reward after reading each token.

        Args:
            hidden_states (`tuple` of `torch.Tensor` of shape `(batch, seq, hidden)`): Hidden states of the base, on any
                device and of any float type; entries that the channel does not read may be `None`.

        Returns:
            `torch.Tensor` of shape `(batch, seq)`: raw rewards, float32 or wider; larger is better.

        Raises:
            ValueError: If the number or width of hidden states is not that of the config.
        """
        *lower, last = self._select(hidden_states)
        channel = None
        for layer, hidden in zip(self.layers, lower, strict=True):
            channel = layer(hidden, channel)
        features = last if channel is None else torch.cat([last, channel], dim=-1)
        # In half precision the sum over features would produce ties between rewards that a search has to distinguish.
        dtype = torch.promote_types(features.dtype, torch.float32)
        features = features.to(dtype)
        for module in self.head:
            if isinstance(module, nn.Linear):
                features = nn.functional.linear(features, module.weight.to(dtype))
            else:
                features = module(features)
        return features.squeeze(-1)

    def _select(self, hidden_states: Sequence[Tensor | None] | None) -> list[Tensor]:
        if hidden_states is None or len(hidden_states) != self.config.num_layers + 1:
            count = "no" if hidden_states is None else len(hidden_states)
            raise ValueError(
                f"The base gave {count} hidden states, but this channel was made for {self.config.num_layers + 1} of "
                "them. Use a causal LM that returns `hidden_states`, the one it was trained on."
            )
        check_streams(hidden_states, self.config.layers, self.config.hidden_size, "channel")
        states = [cast(Tensor, hidden_states[layer]) for layer in self.config.layers]
        weight = self.get_parameter("head.0.weight")
        return [state.to(weight.device, weight.dtype) for state in states]

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Raise `TypeError`, because the channel alone reads hidden states, not text."""
        raise TypeError(
            "A model that reads text must be given, got a `RewardChannel`, which reads hidden states. Pass the "
            "`RewardTransformer` of base and channel, and the tokenizer."
        )

    def check_base(self, base, processing_class=None) -> None:
        """
        Reject a base that this channel was not trained on.

        Raises:
            ValueError: If hidden size, layer count, name, revision, adapter or chat template differ.
        """
        check_base(self.config, base, processing_class, what="reward channel")

    def _card(self, folder: Path, path_or_repo: str) -> CardText:
        return card_text(
            self.config, path_or_repo, tokenizer_path(folder, path_or_repo, self.config.base_model_name_or_path)
        )
