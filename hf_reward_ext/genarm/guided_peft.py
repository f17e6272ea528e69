"""Guides that are adapters on the policy: one copy of the weights."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache

from hf_reward_ext.base.private_api import GroupedAdapters, check_mixed_adapters
from hf_reward_ext.genarm.alpha import Alpha, Schedule
from hf_reward_ext.genarm.grouped_rows import group_rows
from hf_reward_ext.genarm.guided import GuidedCausalLM, forward_logits


class AdapterGuidedCausalLM(GuidedCausalLM):
    """
    The policy's rows and every guide's rows go through one forward; made by [`GuidedCausalLM.from_peft`].

    `generate` knows of B rows, the cache holds (1 + K) groups of B: policy, first guide, and so on.
    """

    def __init__(self, peft_model, adapters: Sequence[str], alpha: Alpha | Schedule):
        adapters = list(adapters)
        check_mixed_adapters(peft_model, adapters)
        super().__init__(peft_model.get_base_model(), [], alpha, num_guides=len(adapters))
        self.adapters = adapters
        self._grouped = GroupedAdapters(self.base, adapters)

    def _read(self, input_ids: Tensor, cache: Cache | None, **kwargs) -> list[Tensor]:
        groups = 1 + len(self.adapters)
        if cache is not None:
            group_rows(cache, groups)
        for name in ("attention_mask", "position_ids"):
            kwargs[name] = _for_every_group(kwargs.get(name), len(input_ids), groups)
        with self._grouped.groups_of(len(input_ids)):
            logits = forward_logits(self.base, torch.cat([input_ids] * groups), cache=cache, **kwargs)
        return list(logits.chunk(groups))


def _for_every_group(value, rows: int, groups: int):
    """Masks and positions of the rows, once per group; masks of static caches come by kind of layer."""
    if isinstance(value, dict):
        return {name: _for_every_group(part, rows, groups) for name, part in value.items()}
    if isinstance(value, Tensor) and len(value) == rows:
        return torch.cat([value] * groups)
    return value
