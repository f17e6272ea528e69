"""Linear reward head on hidden states."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hf_reward_ext.base.lm.layers import check_streams
from hf_reward_ext.base.saving.base_model import load_base, load_base_tokenizer
from hf_reward_ext.base.saving.base_pointer import base_pointer, check_base
from hf_reward_ext.base.saving.card import CardText
from hf_reward_ext.base.saving.model import BaseRewardModel, tokenizer_path
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.base.training.token_rewards import at_step_ends, masked_sum
from hf_reward_ext.elhsr.model_card import card_text
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig
from hf_reward_ext.elhsr.policy import require_states
from hf_reward_ext.elhsr.text_classifier import ELHSRForSequenceClassification

HiddenStates = Sequence[Tensor | None] | Tensor
_MAX_ATTENTION = 15.0  # the sums of weights stay within float32


class ELHSRModel(BaseRewardModel):
    r"""
    Efficient linear hidden-state reward (ELHSR, later SWIFT): one gated linear layer on the policy's states.

    $$ z_t = W f_t + b, \quad g_t = \sigma(z_{t,0}), \quad R = \frac{\sum_t g_t z_{t,1}}{\sum_t g_t} $$

    Section 3 of [ELHSR](https://huggingface.co/papers/2505.12225). $f_t$ concatenates the chosen `hidden_states` at
    the position of completion token $y_t$ (where it is the input), EOS included. Row 0 of `linear` is the gate, row 1
    the reward $\rho_t$; without a gate there is one row and $R$ is the mean. $R$ is a ratio of running
    sums, so the reward of every prefix costs nothing extra.

    Two variants that are not in the paper keep that form: with `attention` the weights are
    $g_t = \exp(\operatorname{clip}(z_{t,0}, -15, 15))$, a softmax over the tokens, and with `mlp_size` $m$
    $z_t = W \operatorname{gelu}(V f_t + c) + b$ with a hidden layer of width $m$.

    Args:
        config ([`ELHSRModelConfig`]): Hidden states that the head reads, and the policy they belong to.

    Example:
    ```python
    >>> head = ELHSRModel(ELHSRModelConfig(hidden_size=16, num_layers=3))
    >>> out = policy(**inputs, output_hidden_states=True)
    >>> rewards = head(out.hidden_states, completion_mask)  # (batch,)
    ```
    """

    config: ELHSRModelConfig
    feature_mean: Tensor
    feature_scale: Tensor
    config_class = ELHSRModelConfig
    base_model_prefix = "elhsr"
    _no_split_modules = []

    def __init__(self, config: ELHSRModelConfig):
        super().__init__(config)
        if config.mlp_size is not None:
            self.hidden = nn.Linear(config.num_features, config.mlp_size)
        self.linear = nn.Linear(config.mlp_size or config.num_features, 2 if config.gate else 1)
        if config.standardize:
            self.register_buffer("feature_mean", torch.zeros(config.num_features))
            self.register_buffer("feature_scale", torch.ones(config.num_features))
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            module.reset_parameters()  # the authors use the initialization of nn.Linear

    @classmethod
    def from_policy(cls, policy, processing_class=None, **config_kwargs) -> Self:
        """
        Create a head for a policy; `config_kwargs` are fields of [`ELHSRModelConfig`] (`layers`, `gate`, ...).

        Raises:
            TypeError: If the policy is not a causal LM.
            ValueError: If the policy is an encoder-decoder, or has virtual tokens.
        """
        require_states(policy)
        text_config = policy.config.get_text_config()
        return cls(
            ELHSRModelConfig(
                hidden_size=text_config.hidden_size,
                num_layers=text_config.num_hidden_layers,
                vocab_size=text_config.vocab_size,
                **base_pointer(policy, processing_class),
                **config_kwargs,
            )
        )

    def forward(
        self,
        hidden_states: HiddenStates,
        completion_mask: Bool[Tensor, "batch seq"],
        step_ends: Int[Tensor, "batch steps"] | None = None,
    ) -> Float[Tensor, " batch"] | Float[Tensor, "batch steps"]:
        """
        Compute the reward of each completion, or of its prefixes.

        Args:
            hidden_states (`tuple` of `torch.Tensor`, or `torch.Tensor` of shape `(batch, seq, features)`):
                `hidden_states` of the policy (entries the head does not read may be `None`), or computed features.
            completion_mask (`torch.Tensor` of shape `(batch, seq)`): `True` on completion tokens, EOS included.
            step_ends (`torch.Tensor` of shape `(batch, steps)`, *optional*): Position of the last token of each step;
                -1 fills rows with fewer steps.

        Returns:
            `torch.Tensor` of shape `(batch,)`: rewards, float32; a logit of correctness after training with `"bce"`.
            With `step_ends` `(batch, steps)`: rewards of the prefixes that end there, NaN where it is -1.

        Raises:
            ValueError: If the features have another width or NaN, or a row has no completion token.
        """
        completion_mask = completion_mask.bool()
        if not completion_mask.any(-1).all():
            row = int((~completion_mask.any(-1)).nonzero()[0])
            raise ValueError(
                f"Row {row} of `completion_mask` marks no token, but the reward is a mean over completion tokens. "
                "Leave empty completions out."
            )
        if step_ends is None:
            rewards = gated_mean(*self.token_rewards(hidden_states), completion_mask)
            broken = rewards.isnan()
        else:
            rewards = at_step_ends(self.prefix_rewards(hidden_states, completion_mask), step_ends)
            broken = rewards.isnan() & (step_ends >= 0)
        if broken.any():
            raise ValueError(
                "The features hold NaN at a completion token, so its reward is undefined. "
                "Run the policy in bfloat16 or float32 instead of float16, or check for an empty attention mask."
            )
        return rewards

    def token_rewards(
        self, hidden_states: HiddenStates
    ) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
        """
        Return gate and reward of every position in float32; gates are 1 for a head without a gate.

        Args:
            hidden_states: As for the call.
        """
        return self.split_gate(self.token_outputs(self.select_features(hidden_states)))

    def token_outputs(self, features: Float[Tensor, "*positions features"]) -> Float[Tensor, "*positions rows"]:
        """Return the outputs $z_t$ of every position, float32 or wider."""
        weight, bias = self.effective_linear()
        outputs = nn.functional.linear(features.to(weight.device, weight.dtype), weight, bias)
        if self.config.mlp_size is None:
            return outputs
        last = (parameter.to(weight.dtype) for parameter in (self.linear.weight, self.linear.bias))
        return nn.functional.linear(nn.functional.gelu(outputs), *last)

    def split_gate(
        self, outputs: Float[Tensor, "*positions rows"]
    ) -> tuple[Float[Tensor, "*positions"], Float[Tensor, "*positions"]]:
        """Split outputs into weight $g_t$ and reward; the weight is 1 without a gate."""
        rewards = outputs[..., -1]
        if outputs.shape[-1] == 1:
            return torch.ones_like(rewards), rewards
        if self.config.attention:
            return outputs[..., 0].clamp(-_MAX_ATTENTION, _MAX_ATTENTION).exp(), rewards
        return outputs[..., 0].sigmoid(), rewards

    def prefix_rewards(
        self, hidden_states: HiddenStates, completion_mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq"]:
        """Return the reward of the completion up to each token, float32; arguments as for the call."""
        return prefix_gated_mean(*self.token_rewards(hidden_states), completion_mask.bool())

    def select_features(self, hidden_states: HiddenStates) -> Float[Tensor, "batch seq features"]:
        """Return the selected layers, concatenated.

        Raises:
            ValueError: If a layer is missing or has another width.
        """
        if isinstance(hidden_states, Tensor):
            features = hidden_states
        else:
            if len(hidden_states) != self.config.num_layers + 1:
                raise ValueError(
                    f"`hidden_states` must have {self.config.num_layers + 1} entries for this head, got "
                    f"{len(hidden_states)}. Pass `outputs.hidden_states` of the policy it was trained on."
                )
            check_streams(hidden_states, self.config.layers, self.config.hidden_size, "head")
            features = torch.cat([cast(Tensor, hidden_states[layer]) for layer in self.config.layers], dim=-1)
        if features.shape[-1] != self.config.num_features:
            raise ValueError(
                f"The features of a token must be {self.config.num_features} ({len(self.config.layers)} layers) for "
                f"this head, got {features.shape[-1]}. Load the policy it was trained on."
            )
        return features

    def effective_linear(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the first layer for raw features, with the standardization folded in."""
        first = self._first_layer
        dtype = torch.promote_types(first.weight.dtype, torch.float32)
        weight, bias = first.weight.to(dtype), first.bias.to(dtype)
        if not self.config.standardize:
            return weight, bias
        weight = weight / self.feature_scale
        return weight, bias - weight @ self.feature_mean

    @property
    def _first_layer(self) -> nn.Linear:
        return self.linear if self.config.mlp_size is None else self.hidden

    @torch.no_grad()
    def fold_standardization(self) -> Self:
        """Convert a standardizing head, in place, to a plain head with the same rewards."""
        if self.config.standardize:
            weight, bias = self.effective_linear()
            self._first_layer.weight.copy_(weight)
            self._first_layer.bias.copy_(bias)
            del self.feature_mean, self.feature_scale
            self.config.standardize = False
        return self

    def probability(self, rewards: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """
        Return the probability of a correct completion, by the logistic map fitted on held-out data.

        Raises:
            RuntimeError: If the head is not calibrated.
        """
        if self.config.calibration is None:
            raise RuntimeError(
                "This head has no calibration, so a reward cannot be read as a probability. Train it with a "
                "validation split (`validation_fraction` above 0), or set `config.calibration = [slope, intercept]`."
            )
        slope, intercept = self.config.calibration
        return torch.sigmoid(slope * rewards + intercept)

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """
        Return the scorer of completions with the policy in the head's config, for [`as_scorer`].

        Raises:
            TypeError: If the head was trained on a policy without a name, or on an adapter.
        """
        if self.config.base_model_name_or_path is None or self.config.adapter is not None:
            raise TypeError(
                "An `ELHSRModel` whose policy has a name must be given, because the head alone reads hidden states, "
                "not text. Pass `ELHSRForSequenceClassification(policy, head)` and the tokenizer."
            )
        tokenizer = tokenizer or load_base_tokenizer(self.config)
        return ELHSRForSequenceClassification(load_base(self.config), self).scorer(tokenizer, batch_size)

    def check_policy(self, policy, processing_class=None) -> None:
        """
        Reject a policy that this head was not trained on.

        Raises:
            TypeError: If the policy is not a causal LM.
            ValueError: If hidden size, layer count, name, revision, adapter or chat template differ, or the policy has
                virtual tokens.
        """
        require_states(policy)
        check_base(self.config, policy, processing_class, what="head")

    def _card(self, folder: Path, path_or_repo: str) -> CardText:
        return card_text(
            self.config, path_or_repo, tokenizer_path(folder, path_or_repo, self.config.base_model_name_or_path)
        )


def gated_mean(
    gates: Float[Tensor, "batch seq"], rewards: Float[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, " batch"]:
    r"""
    Return the gated mean over the marked positions.

    $$ R = \frac{\sum_t g_t \rho_t}{\max(\sum_t g_t, 10^{-8})} $$

    Example:
    ```python
    >>> gated_mean(torch.tensor([[0.5, 1.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[True, True]]))
    tensor([1.])
    ```
    """
    return masked_sum(gates * rewards, mask) / masked_sum(gates, mask).clamp(min=1e-8)


def prefix_gated_mean(
    gates: Float[Tensor, "batch seq"], rewards: Float[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq"]:
    """Return [`gated_mean`] of every prefix; positions outside the mask repeat the previous value."""
    gates = gates.masked_fill(~mask, 0)
    weighted = (gates * rewards.masked_fill(~mask, 0)).cumsum(-1)
    return weighted / gates.cumsum(-1).clamp(min=1e-8)
