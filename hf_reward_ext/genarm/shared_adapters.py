"""Reader of guides that are adapters on the policy, with one copy of the weights."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, PreTrainedConfig

from hf_reward_ext.genarm.causal_lms import check_causal_lm
from hf_reward_ext.genarm.conditioning import refuse_conditioned
from hf_reward_ext.genarm.grouped_rows import group_rows
from hf_reward_ext.genarm.lora_groups import GroupedAdapters, check_mixed_adapters
from hf_reward_ext.genarm.reading import GuideReader, Reading, read_model
from hf_reward_ext.genarm.separate_models import fit_cache, joint_config, num_layers


class SharedAdapters(GuideReader):
    """
    Reader with one forward for the rows of the policy and all guides, see [`GuidedCausalLM.from_peft`].

    `generate` uses B rows, and the cache has (1 + K) groups of B rows: policy, first guide, and so on.

    Args:
        peft_model (`PeftModel`): Policy with adapters; the policy is the model without them.
        adapters (`str` or `list[str]`): Names of the K guides.

    Raises:
        TypeError: If the model has no LoRA, or is not a causal LM.
        ValueError: If an adapter is not loaded, is merged, or cannot be mixed in a batch.
    """

    def __init__(self, peft_model, adapters: str | Sequence[str]):
        adapters = [adapters] if isinstance(adapters, str) else list(adapters)
        check_mixed_adapters(peft_model, adapters)
        refuse_conditioned([peft_model])
        base = peft_model.get_base_model()
        check_causal_lm(base, "The policy")
        super().__init__(base, [], len(adapters))
        self.adapters = adapters
        self._grouped = GroupedAdapters(base, adapters)

    def joint_config(self) -> PreTrainedConfig:
        return joint_config([self.base])

    def check_cache(self, cache: Cache) -> None:
        fit_cache(cache, num_layers(self.base))

    # LoRA groups are set on the shared model, which breaks a graph; the model's forward is compiled all the same.
    @torch.compiler.disable(recursive=False)
    def read(
        self,
        input_ids: Tensor,
        cache: Cache | None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> Reading:
        groups, rows = 1 + self.num_guides, len(input_ids)
        if cache is not None:
            self.check_cache(cache)
            group_rows(cache, groups)
        for name in ("attention_mask", "position_ids"):
            kwargs[name] = _for_every_group(kwargs.get(name), rows, groups)
        asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        kwargs |= {name: value for name, value in asked.items() if value}
        with self._grouped.groups_of(rows):
            output = read_model(self.base, torch.cat([input_ids] * groups), cache=cache, **kwargs)
        base, *guides = output.logits.chunk(groups)
        return Reading(
            base,
            guides,
            tuple(states[:rows] for states in output.hidden_states) if output_hidden_states else None,
            tuple(weights[:rows] for weights in output.attentions) if output_attentions else None,
        )


def _for_every_group(value, rows: int, groups: int):
    """Repeat masks and positions for every group; masks of static caches are grouped by kind of layer."""
    if isinstance(value, dict):
        return {name: _for_every_group(part, rows, groups) for name, part in value.items()}
    if isinstance(value, Tensor) and len(value) == rows:
        return torch.cat([value] * groups)
    return value
