"""How a policy and its guides read tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from hf_reward_ext.base.lm.forward import as_index, run_forward, supports_logits_to_keep


@dataclass(frozen=True)
class Reading:
    """
    What one forward of policy and guides gave.

    Args:
        base (`torch.Tensor` of shape `(rows, kept, vocab)`): Logits of the policy.
        guides (`list` of `torch.Tensor` of shape `(rows, kept, guide_vocab)`): Logits of each guide.
        hidden_states, attentions (`tuple` of `torch.Tensor`, *optional*): Those of the policy, where they were asked
            for.
    """

    base: Tensor
    guides: list[Tensor]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class GuideReader(ABC):
    """
    Runs policy and guides over the same tokens, with one cache for all of them.

    Args:
        base (`PreTrainedModel`): The policy.
        guides (`list[PreTrainedModel]`): Guides that are models of their own, possibly none.
        num_guides (`int`): Number of guides, K.
    """

    def __init__(self, base: PreTrainedModel, guides: Sequence[PreTrainedModel], num_guides: int):
        self.base = base
        self.guides = list(guides)
        self.num_guides = num_guides

    @abstractmethod
    def joint_config(self) -> PreTrainedConfig:
        """Configuration from which `generate` builds the one cache."""

    @abstractmethod
    def check_cache(self, cache: Cache) -> None:
        """Gives a cache that was made without a configuration its layers, and refuses one for another model."""

    @abstractmethod
    def read(self, input_ids: Int[Tensor, "rows seq"], cache: Cache | None, **kwargs) -> Reading:
        """
        Reads tokens with policy and guides.

        Args:
            input_ids (`torch.Tensor` of shape `(rows, seq)`): Tokens to read.
            cache (`Cache`, *optional*): Cache built from [`joint_config`]; it grows.
            **kwargs: `attention_mask`, `position_ids`, `logits_to_keep`, and for the policy alone
                `output_hidden_states` and `output_attentions`.
        """


def read_model(model, input_ids: Tensor, *, cache: Cache | None = None, logits_to_keep: int | Tensor = 0, **kwargs):
    """Output of one model on its own device, with the logits that are kept."""
    inputs = {name: _to(value, model.device) for name, value in kwargs.items()}
    output = run_forward(model, input_ids.to(model.device), cache=cache, logits_to_keep=logits_to_keep, **inputs)  # pyright: ignore[reportArgumentType]
    if not supports_logits_to_keep(model):
        output.logits = output.logits[:, as_index(logits_to_keep)]
    return output


def _to(value, device: torch.device):
    """Tensors to a device; masks of static caches come by kind of layer."""
    if isinstance(value, dict):
        return {name: _to(part, device) for name, part in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
