"""Input of the guides: their rendering of the prompt, and its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from hf_reward_ext.base.lm.generate_hook import GenerateCall
from hf_reward_ext.base.lm.per_thread import PerThread
from hf_reward_ext.base.lm.tokens import inferred_mask


class PromptView:
    """
    View that splits the ids of a processor's call into prompt and continuation.

    Inside `generate` prompt and mask are those of the call ([`around`]). Elsewhere the prompt is the ids of the
    first call, and the guides infer the mask. Each thread has its own state.

    Args:
        prompt_ids, prompt_attention_mask (`torch.Tensor` of shape `(B, seq)`, *optional*): Rendering for the
            guides.
    """

    def __init__(self, prompt_ids: Tensor | None, prompt_attention_mask: Tensor | None):
        self.prompt_ids = prompt_ids
        self.prompt_attention_mask = prompt_attention_mask
        self._states = PerThread(_State)

    @contextmanager
    def around(self, call: GenerateCall) -> Iterator[bool]:
        """Enter one `generate` call. Yields `False` for the nested call of an assistant, which is ignored."""
        state = self._states.value
        if state.is_inside:
            yield False
            return
        if call.input_ids is None and call.arguments.get("inputs_embeds") is not None:
            self._refuse_invisible_prompt()
        state.is_inside = True
        ids, mask = call.input_ids, call.arguments.get("attention_mask")
        if ids is not None:
            state.prompt = (ids, inferred_mask(ids, call.config) if mask is None else mask)
        try:
            yield True
        finally:
            self._states.clear()

    def split(self, input_ids: Int[Tensor, "rows seq"]) -> tuple[Tensor, Tensor | None, int]:
        """Return ids and mask (`None`: unknown) for the guides, and the number of generated tokens."""
        if input_ids.shape[1] == 0:
            self._refuse_invisible_prompt()
        state = self._states.value
        given = state.prompt
        length = given[0].shape[1] if given is not None else state.steps.prompt_length(input_ids)
        prompt, continuation = input_ids[:, :length], input_ids[:, length:]
        mask = self.prompt_attention_mask
        if self.prompt_ids is not None:
            prompt = _repeat(self.prompt_ids, input_ids, "prompt_ids")
        elif mask is None and given is not None:
            mask = given[1]
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

    def _refuse_invisible_prompt(self) -> None:
        if self.prompt_ids is None:
            raise ValueError(
                "`generate` was called with `inputs_embeds`, so the guides have no prompt. Pass `prompt_ids=` "
                "to the processor."
            )


class _StepCounter:
    """Counter that finds the end of the prompt from the ids, which grow by at most one token in a `generate` call."""

    def __init__(self):
        self._prompts: Tensor | None = None
        self._longest = -1

    def prompt_length(self, input_ids: Tensor) -> int:
        length = input_ids.shape[1]
        if self._prompts is None or not self._continues(input_ids, self._prompts):
            self._prompts = input_ids.clone()
            self._longest = length
        self._longest = max(self._longest, length)
        return self._prompts.shape[1]

    def _continues(self, input_ids: Tensor, prompts: Tensor) -> bool:
        length = prompts.shape[1]
        if not length < input_ids.shape[1] <= self._longest + 1 or len(input_ids) % len(prompts):
            return False
        return torch.equal(input_ids[:, :length], prompts.repeat_interleave(len(input_ids) // len(prompts), dim=0))


@dataclass
class _State:
    """State of one thread's `generate` call."""

    is_inside: bool = False
    prompt: tuple[Tensor, Tensor] | None = None
    steps: _StepCounter = field(default_factory=_StepCounter)


def _repeat(values: Tensor, input_ids: Tensor, name: str) -> Tensor:
    rows = len(input_ids)
    if rows % len(values):
        raise ValueError(
            f"`{name}` has {len(values)} prompts, but {rows} rows are generated, which is no multiple of it. "
            "Pass one row per prompt."
        )
    return values.to(input_ids.device).repeat_interleave(rows // len(values), dim=0)
