"""Shared prefill: a prompt is read once and continued many times."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.forward import generate_cache_name, run_forward
from hf_reward_ext.base.lm.keywords import check_generate_keywords


class SharedPrefill:
    """
    Cache of a batch of left-padded prompts, repeated for each candidate so that the prompts are read only once.

    The tokens equal those of plain `generate(num_return_sequences=...)` with the same seed. Policies whose cache
    cannot repeat rows (linear attention) and prompts of one token use plain `generate`.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): The model that generates.
        input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): The prompts, padded on the left.

    Example:
    ```python
    >>> prefill = SharedPrefill(policy, input_ids, attention_mask)
    >>> sequences = prefill.generate(16, do_sample=True)  # (batch * 16, seq + new)
    ```
    """

    def __init__(self, policy, input_ids: Int[Tensor, "batch seq"], attention_mask: Int[Tensor, "batch seq"]):
        self.policy = policy
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self._cache = self._read() if input_ids.shape[1] > 1 else None

    @torch.no_grad()
    def _read(self) -> DynamicCache | None:
        cache = new_cache(self.policy)
        if not can_select_rows(cache):
            return None
        mask = self.attention_mask[:, :-1]
        run_forward(self.policy, self.input_ids[:, :-1], mask, cache=cache, logits_to_keep=1)
        return cache

    def expanded_cache(self, num_candidates: int, last_use: bool = False) -> DynamicCache | None:
        """Return the cache with each row repeated, as a copy unless this is its last use."""
        if self._cache is None:
            return None
        cache = self._cache if last_use else copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(num_candidates)
        if last_use:
            self._cache = None
        return cache

    def select(self, prompts: Sequence[int]) -> None:
        """Keep only these prompts, by their indices."""
        self.input_ids, self.attention_mask = self.input_ids[prompts], self.attention_mask[prompts]
        if self._cache is not None:
            self._cache.batch_select_indices(torch.tensor(prompts, device=self.input_ids.device))

    def generate(self, num_candidates: int, last_use: bool = True, **generate_kwargs):
        """
        Sample `num_candidates` continuations of every prompt.

        Args:
            num_candidates (`int`): Number of continuations per prompt; those of one prompt are adjacent in the output.
            last_use (`bool`, *optional*, defaults to `True`): Whether the cache may be consumed instead of copied.
            **generate_kwargs: Further arguments of `policy.generate`.

        Returns:
            The output of `policy.generate`.

        Raises:
            TypeError: For a keyword that `generate` does not have.
        """
        check_generate_keywords(self.policy, generate_kwargs)
        cache = self.expanded_cache(num_candidates, last_use)
        if cache is None:
            return self.policy.generate(
                input_ids=self.input_ids,
                attention_mask=self.attention_mask,
                num_return_sequences=num_candidates,
                **generate_kwargs,
            )
        forget_rope_deltas(self.policy)
        return self.policy.generate(
            input_ids=self.input_ids.repeat_interleave(num_candidates, dim=0),
            attention_mask=self.attention_mask.repeat_interleave(num_candidates, dim=0),
            use_cache=True,  # gradient checkpointing saves `use_cache=False`
            **{generate_cache_name(): cache},
            **generate_kwargs,
        )


def forget_rope_deltas(model) -> None:
    """
    Remove the position offsets that models of the Qwen-VL family keep from their last call.

    `generate` with a cache would apply them to other rows. Without them it counts positions along the mask.
    """
    for module in model.modules():
        if getattr(module, "rope_deltas", None) is not None:
            module.rope_deltas = None
