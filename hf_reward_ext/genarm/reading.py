"""Reading of tokens by a policy and its guides."""

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
    Output of one forward of policy and guides.

    Args:
        base (`torch.Tensor` of shape `(rows, kept, vocab)`): Logits of the policy.
        guides (`list` of `torch.Tensor` of shape `(rows, kept, guide_vocab)`): Logits of each guide.
        hidden_states, attentions (`tuple` of `torch.Tensor`, *optional*): Hidden states and attentions of the
            policy, if requested.
    """

    base: Tensor
    guides: list[Tensor]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class GuideReader(ABC):
    """
    Base class of readers, which run policy and guides on the same tokens with one cache.

    Args:
        base (`PreTrainedModel`): Policy.
        guides (`list[PreTrainedModel]`): Guides that are separate models, possibly none.
        num_guides (`int`): Number of guides, K.
    """

    def __init__(self, base: PreTrainedModel, guides: Sequence[PreTrainedModel], num_guides: int):
        self.base = base
        self.guides = list(guides)
        self.num_guides = num_guides

    @abstractmethod
    def joint_config(self) -> PreTrainedConfig:
        """Return the configuration from which `generate` builds the cache."""

    @abstractmethod
    def check_cache(self, cache: Cache) -> None:
        """Add layers to a cache that was created without a configuration, and reject one of another model."""

    @abstractmethod
    def read(self, input_ids: Int[Tensor, "rows seq"], cache: Cache | None, **kwargs) -> Reading:
        """
        Read tokens with policy and guides.

        Args:
            input_ids (`torch.Tensor` of shape `(rows, seq)`): Tokens to read.
            cache (`Cache`, *optional*): Cache built from [`joint_config`], extended in place.
            **kwargs: `attention_mask`, `position_ids`, `logits_to_keep`, and for the policy only
                `output_hidden_states` and `output_attentions`.
        """


def read_model(model, input_ids: Tensor, *, cache: Cache | None = None, logits_to_keep: int | Tensor = 0, **kwargs):
    """Return the output of one model on its device, with the logits to keep."""
    inputs = {name: _to(value, model.device) for name, value in kwargs.items()}
    output = run_forward(model, input_ids.to(model.device), cache=cache, logits_to_keep=logits_to_keep, **inputs)  # pyright: ignore[reportArgumentType]
    if not supports_logits_to_keep(model):
        output.logits = output.logits[:, as_index(logits_to_keep)]
    return output


def _to(value, device: torch.device):
    """Move tensors to a device; masks of static caches are grouped by kind of layer."""
    if isinstance(value, dict):
        return {name: _to(part, device) for name, part in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
