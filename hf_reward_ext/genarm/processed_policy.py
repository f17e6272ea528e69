"""A policy and the guides of its logits processor, which read drafts together."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessorList

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.static_guide import StaticGuide
from hf_reward_ext.genarm.conditioning import num_objectives_of
from hf_reward_ext.genarm.decoding import GenARMLogitsProcessor
from hf_reward_ext.genarm.separate_models import SeparateModels


class ProcessedPolicy:
    """
    A policy with the guides and the options of a [`GenARMLogitsProcessor`], as a target of drafts.

    Args:
        policy (`PreTrainedModel`): Causal LM whose `generate` was called.
        processor ([`GenARMLogitsProcessor`]): Its processor.

    Raises:
        ValueError: If the processor has options under which guides and policy do not read the same text, or rejected
            drafts cannot be removed from the cache of a model.
    """

    def __init__(self, policy, processor: GenARMLogitsProcessor):
        _refuse_options(processor)
        models = [policy, *(guide.model for guide in processor.guides)]
        for model in models:
            if not can_select_rows(new_cache(model)):
                raise ValueError(
                    "Policy and guides must have attention layers only with `custom_generate=speculative_generate`, so "
                    f"that rejected tokens can be removed from their caches, got a `{type(model).__name__}`. Leave "
                    "`custom_generate` out."
                )
        self.config = policy.config
        self.processor = processor
        self.reader = SeparateModels(policy, models[1:])

    def weights_of_columns(
        self, columns: Int[Tensor, " columns"], prompt_length: int, rows: int, device: torch.device
    ) -> Float[Tensor, "rows columns guides"]:
        """Return the weights for choosing tokens, see [`GuideWeights.of_columns`]."""
        return self.processor.weights_of_columns(columns, prompt_length, rows, device)

    def common_size(self, base: Tensor, guides: Sequence[Tensor]) -> int:
        """Return the number of leading ids that policy and guides share."""
        return self.processor.common_size(base, guides)


def split_processors(
    processors: LogitsProcessorList,
) -> tuple[LogitsProcessorList, list[GenARMLogitsProcessor], LogitsProcessorList]:
    """Return the processors before the first processor with guides, all with guides, and the others after the first."""
    guided = [one for one in processors if type(one) is GenARMLogitsProcessor]
    first = processors.index(guided[0]) if guided else len(processors)
    after = [one for one in processors[first:] if type(one) is not GenARMLogitsProcessor]
    return LogitsProcessorList(processors[:first]), guided, LogitsProcessorList(after)


def _refuse_options(processor: GenARMLogitsProcessor) -> None:
    given = {
        "prompt_ids": processor.prompt.prompt_ids is not None,
        "prompt_attention_mask": processor.prompt.prompt_attention_mask is not None,
        "static_cache_length": any(isinstance(guide, StaticGuide) for guide in processor.guides),
    }
    names = [f"`{name}`" for name, is_given in given.items() if is_given]
    if names:
        raise ValueError(
            f"{', '.join(names)} of the processor must be None with `custom_generate=speculative_generate`: policy and "
            "guides read the same prompt, with one cache. Leave it out, or leave `custom_generate` out."
        )
    if any(num_objectives_of(guide.model) is not None for guide in processor.guides):
        raise ValueError(
            "`weights` of the processor must be None with `custom_generate=speculative_generate`, got a conditioned "
            "guide. Call `fold_weights(guide, weights)` first, or leave `custom_generate` out."
        )
