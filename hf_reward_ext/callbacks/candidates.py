"""Candidates of a policy for each of some prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import set_seed

from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.callbacks.prompts import Prompt


@dataclass
class Sampling:
    """
    How candidates are drawn.

    Args:
        max_new_tokens (`int`): Longest completion.
        temperature (`float`): Of the samples.
        generation_kwargs (`dict`, *optional*): More, or others, for `generate`.
        batch_size (`int`): Prompts at a time.
        seed (`int`): A batch is seeded with it and the place of its first prompt, so that evaluations compare, and the
            number of processes matters little.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    generation_kwargs: dict[str, Any] | None = None
    batch_size: int = 8
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """Arguments of `generate`; whatever the policy's own generation config says, plain sampling is the default."""
        plain = dict(do_sample=True, temperature=self.temperature, top_k=0, top_p=1.0, use_cache=True)
        return {**plain, "max_new_tokens": self.max_new_tokens, **(self.generation_kwargs or {})}


@torch.no_grad()
def sample_candidates(
    policy,
    processing_class,
    prompts: Sequence[Prompt],
    num_candidates: int,
    sampling: Sampling,
    *,
    first: int = 0,
    visit: Callable[[Tensor, Tensor], Sequence] | None = None,
    **generate_kwargs,
) -> tuple[list[list[list[int]]], list]:
    """
    Token ids of the candidates of each prompt, up to and with EOS.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): In evaluation mode.
        processing_class: Its tokenizer; it is not changed.
        prompts (`list` of [`Prompt`]): What to continue.
        num_candidates (`int`): Candidates per prompt.
        sampling ([`Sampling`]): How.
        first (`int`, defaults to 0): Place of the first prompt among those of all processes.
        visit (`callable`, *optional*): Gets the sequences and the prompts' attention mask of each batch, gives a value
            per row.
        **generate_kwargs: For `generate` (`logits_processor`, ...).

    Returns:
        Per prompt a list of candidates, each a list of ids; and the values of `visit`, flat, in the same order.
    """
    candidates, visited = [], []
    pad = processing_class.pad_token_id
    for start in range(0, len(prompts), sampling.batch_size):
        batch = prompts[start : start + sampling.batch_size]
        set_seed((sampling.seed + first + start) % 2**32)
        input_ids, attention_mask = left_padded([prompt.ids for prompt in batch], pad, policy.device)
        sequences = policy.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            num_return_sequences=num_candidates,
            pad_token_id=pad,
            **sampling.settings(),
            **generate_kwargs,
        )
        completions = sequences[:, input_ids.shape[1] :]
        mask = completion_mask_from_ids(completions, end_token_ids(policy, processing_class), pad)
        rows = [ids[kept].tolist() for ids, kept in zip(completions, mask, strict=True)]
        candidates += [rows[place : place + num_candidates] for place in range(0, len(rows), num_candidates)]
        if visit is not None:
            visited += visit(sequences, attention_mask)
    return candidates, visited


def left_padded(
    rows: Sequence[list[int]], pad_token_id: int | None, device: torch.device
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Ids and mask of prompts, without a look at the tokenizer's `padding_side`."""
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    masks = [torch.ones_like(row) for row in ids]
    pad = torch.nn.utils.rnn.pad_sequence
    return (
        pad(ids, batch_first=True, padding_value=pad_token_id or 0, padding_side="left").to(device),
        pad(masks, batch_first=True, padding_value=0, padding_side="left").to(device),
    )


def end_token_ids(policy, processing_class) -> list[int]:
    """Every id that ends a completion."""
    ends = policy.generation_config.eos_token_id
    ends = ends if ends is not None else processing_class.eos_token_id
    return [] if ends is None else torch.tensor(ends).flatten().tolist()
