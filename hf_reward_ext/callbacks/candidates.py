"""Sampling of candidates for prompts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, set_seed

from hf_reward_ext.base.lm.forward import unwrap_peft
from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.base.lm.tokens import left_padded
from hf_reward_ext.callbacks.prompts import Prompt

# Arguments of `generate` that the callbacks set themselves.
_OWN_KEYWORDS = {
    "inputs",
    "input_ids",
    "attention_mask",
    "num_return_sequences",
    "pad_token_id",
    "return_dict_in_generate",
    "generation_config",
}


@dataclass
class Sampling:
    """
    Settings of the sampling of candidates.

    Args:
        max_new_tokens (`int`): Maximum number of tokens of a completion.
        temperature (`float`): Sampling temperature.
        generation_kwargs (`dict`, *optional*): Further arguments of `generate`, or other values of these.
        batch_size (`int`): Number of prompts per batch.
        seed (`int`): Random seed. A batch is seeded with it and the index of its first prompt, so that evaluations are
            comparable and nearly independent of the number of processes.

    Raises:
        ValueError: If a number is out of range, or `generation_kwargs` has arguments that the callback sets itself.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    generation_kwargs: dict[str, Any] | None = None
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self):
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"`temperature` must be a positive number, got {self.temperature}.")
        taken = sorted(_OWN_KEYWORDS & set(self.generation_kwargs or {}))
        if taken:
            raise ValueError(f"`generation_kwargs` must not hold {taken}, which the callback sets. Leave them out.")

    def settings(self) -> dict[str, Any]:
        """Return the arguments of `generate`: plain sampling, unless `generation_kwargs` changes it."""
        plain = dict(do_sample=True, temperature=self.temperature, top_k=0, top_p=1.0, use_cache=True)
        return {**plain, "max_new_tokens": self.max_new_tokens, **(self.generation_kwargs or {})}


class Candidate(NamedTuple):
    """
    A sampled completion.

    Attributes:
        ids (`list[int]`): Token ids, up to and including EOS.
        is_cut (`bool`): `True` if the length limit ended it.
    """

    ids: list[int]
    is_cut: bool


@torch.no_grad()
def sample_candidates(
    policy: Any,
    processing_class: Any,
    prompts: Sequence[Prompt],
    num_candidates: int,
    sampling: Sampling,
    *,
    first: int = 0,
    visit: Callable[[Tensor, Tensor, Tensor], Sequence] | None = None,
    **generate_kwargs,
) -> tuple[list[list[Candidate]], list]:
    """
    Sample candidates of each prompt, with only EOS, BOS and padding tokens from the policy's generation config.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Policy in evaluation mode.
        processing_class: Tokenizer of the policy, which is not changed.
        prompts (`list` of [`Prompt`]): Prompts to continue.
        num_candidates (`int`): Number of candidates per prompt.
        sampling ([`Sampling`]): Sampling settings.
        first (`int`, defaults to 0): Index of the first prompt among those of all processes.
        visit (`callable`, *optional*): Function of the sequences, the prompts' attention mask and the completion mask
            of a batch that returns a value per row.
        **generate_kwargs: Arguments of `generate` (`logits_processor`, ...).

    Returns:
        List of [`Candidate`] per prompt, and the values of `visit` as a flat list in the same order.
    """
    candidates, visited = [], []
    pad = processing_class.pad_token_id
    for start in range(0, len(prompts), sampling.batch_size):
        batch = prompts[start : start + sampling.batch_size]
        set_seed((sampling.seed + first + start) % 2**32)
        input_ids, attention_mask = left_padded([prompt.ids for prompt in batch], pad or 0, policy.device)
        with plain_generation(policy, processing_class), watch_row_ends(policy) as ends:
            sequences = policy.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                num_return_sequences=num_candidates,
                pad_token_id=pad,
                **sampling.settings(),
                **generate_kwargs,
            )
        written = ends.completion_mask(sequences, input_ids.shape[1])
        rows = zip(sequences[:, input_ids.shape[1] :], written, ends.is_finished(sequences), strict=True)
        samples = [Candidate(ids[kept].tolist(), not finished) for ids, kept, finished in rows]
        candidates += [samples[row : row + num_candidates] for row in range(0, len(samples), num_candidates)]
        if visit is not None:
            visited += visit(sequences, attention_mask, written)
    return candidates, visited


@contextmanager
def plain_generation(policy: Any, processing_class: Any) -> Iterator[None]:
    """Make `generate` use only EOS (or else the tokenizer's), BOS and padding tokens of the generation config."""
    models = list(dict.fromkeys([policy, unwrap_peft(policy)]))  # PEFT copies the outer config to the inner model
    before = [model.generation_config for model in models]
    special = {name: getattr(before[0], name) for name in ("eos_token_id", "bos_token_id", "pad_token_id")}
    if special["eos_token_id"] is None:
        special["eos_token_id"] = processing_class.eos_token_id
    try:
        for model in models:
            model.generation_config = GenerationConfig(**special)
        yield
    finally:
        for model, config in zip(models, before, strict=True):
            model.generation_config = config
