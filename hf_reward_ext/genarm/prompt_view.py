"""What the guides read: their rendering of the prompt, and where it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Int
from torch import Tensor


class PromptView:
    """
    Splits the ids that a processor is called with into prompt and continuation.

    `generate` tells the prompt and its mask ([`following`]). Where a processor is called by something else, the prompt
    is what its first call shows, and the mask is left to the guides.

    Args:
        prompt_ids, prompt_attention_mask (`torch.Tensor` of shape `(B, seq)`, *optional*): The guides' own rendering.
    """

    def __init__(self, prompt_ids: Tensor | None, prompt_attention_mask: Tensor | None):
        self.prompt_ids = prompt_ids
        self.prompt_attention_mask = prompt_attention_mask
        self._inside = False
        self._told: tuple[Tensor, Tensor] | None = None
        self._steps = _StepCounter()

    @contextmanager
    def following(
        self, ids: Tensor | None, mask: Tensor | None, pad_token_id: int | None, eos_token_id: int | list[int] | None
    ) -> Iterator[bool]:
        """Around a `generate` call with these arguments; that of an assistant inside it (`False`) tells nothing new."""
        if self._inside:
            yield False
            return
        self._inside = True
        if ids is not None:
            self._told = (ids, _mask_of_generate(ids, pad_token_id, eos_token_id) if mask is None else mask)
        try:
            yield True
        finally:
            self._inside, self._told = False, None

    def split(self, input_ids: Int[Tensor, "rows seq"]) -> tuple[Tensor, Tensor | None, int]:
        """Ids and mask (`None`: not known) for the guides, and the number of tokens written."""
        if self.prompt_ids is None and input_ids.shape[1] == 0:
            raise ValueError(
                "`generate` was called with `inputs_embeds`, so the guides cannot see the prompt. Pass `prompt_ids=` "
                "to the processor."
            )
        length = self._told[0].shape[1] if self._told is not None else self._steps.prompt_length(input_ids)
        prompt, continuation = input_ids[:, :length], input_ids[:, length:]
        mask = self.prompt_attention_mask
        if self.prompt_ids is not None:
            prompt = _repeat(self.prompt_ids, input_ids, "prompt_ids")
        elif mask is None and self._told is not None:
            mask = self._told[1]
        ids = torch.cat([prompt, continuation], dim=-1)
        if mask is None:
            return ids, None, continuation.shape[1]
        if mask.shape[1] != prompt.shape[1]:
            raise ValueError(
                f"`prompt_attention_mask` has {mask.shape[1]} columns, but the prompt has {prompt.shape[1]}. Pass the "
                "mask of the same prompts."
            )
        mask = _repeat(mask, input_ids, "prompt_attention_mask").to(ids.dtype)
        return ids, torch.cat([mask, torch.ones_like(continuation)], dim=-1), continuation.shape[1]


class _StepCounter:
    """Tells from the ids alone where the prompt ends: within one `generate` call ids grow by one token at most."""

    def __init__(self):
        self._prompts: Tensor | None = None
        self._longest = -1

    def prompt_length(self, input_ids: Tensor) -> int:
        length = input_ids.shape[1]
        if self._prompts is None or not self._goes_on(input_ids, self._prompts):
            self._prompts = input_ids.clone()
            self._longest = length
        self._longest = max(self._longest, length)
        return self._prompts.shape[1]

    def _goes_on(self, input_ids: Tensor, prompts: Tensor) -> bool:
        length = prompts.shape[1]
        if not length < input_ids.shape[1] <= self._longest + 1 or len(input_ids) % len(prompts):
            return False
        return torch.equal(input_ids[:, :length], prompts.repeat_interleave(len(input_ids) // len(prompts), dim=0))


def _mask_of_generate(ids: Tensor, pad: int | None, eos: int | list[int] | None) -> Tensor:
    """The mask that `generate` makes up where it is given none: padding is seen only if it differs from EOS."""
    ends = [] if eos is None else torch.as_tensor(eos).flatten().tolist()
    return torch.ones_like(ids) if pad is None or pad in ends else (ids != pad).long()


def _repeat(values: Tensor, input_ids: Tensor, name: str) -> Tensor:
    rows = len(input_ids)
    if rows % len(values):
        raise ValueError(
            f"`{name}` has {len(values)} prompts, but {rows} rows are generated, which is no multiple of it. "
            "Pass one row per prompt."
        )
    return values.to(input_ids.device).repeat_interleave(rows // len(values), dim=0)
