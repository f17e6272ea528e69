"""Candidates of prompts, sampled on a prompt that is read once."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.best_of_n.options import BestOfNOptions
from hf_reward_ext.best_of_n.reading import ReadReward, open_reader


def sample_candidates(
    policy: Any,
    reward: ReadReward | None,
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"],
    options: BestOfNOptions,
    pad_token_id: int,
    generate_kwargs: dict[str, Any],
) -> Candidates:
    """
    Samples `options.num_candidates` completions of every prompt, at most `options.candidates_per_batch` at a time.

    Args:
        policy (`PreTrainedModel`): The model that generates.
        reward ([`ELHSRModel`] or [`Measure`], *optional*): Read while the candidates are written.
        input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Prompts, padded on the left.
        options ([`BestOfNOptions`]): Options of the pipeline.
        pad_token_id (`int`): Fills shorter candidates.
        generate_kwargs (`dict`): Arguments of `generate`.

    Returns:
        [`Candidates`], with rewards if one is read.
    """
    prefill = SharedPrefill(policy, input_ids, attention_mask)
    chunk = min(options.candidates_per_batch or options.num_candidates, options.num_candidates)
    counts = [min(chunk, options.num_candidates - start) for start in range(0, options.num_candidates, chunk)]
    parts = [
        _sample(prefill, reward, count, input_ids.shape[1], {**generate_kwargs, "last_use": number == len(counts)})
        for number, count in enumerate(counts, start=1)
    ]
    return _join(parts, len(input_ids), pad_token_id)


def _sample(
    prefill: SharedPrefill, reward: ReadReward | None, count: int, prompt_length: int, generate_kwargs: dict[str, Any]
) -> Candidates:
    if reward is not None:
        with open_reader(reward, prefill.policy) as reader:
            generated = prefill.generate(count, **generate_kwargs)
        rewards, mask = reader.rewards, reader.completion_mask
    else:
        with watch_row_ends(prefill.policy) as ends:
            generated = prefill.generate(count, **generate_kwargs)
        rewards, mask = None, ends.completion_mask(_sequences(generated), prompt_length)
    num_tokens = mask.sum(-1)
    return Candidates(_sequences(generated), num_tokens, torch.zeros_like(num_tokens, dtype=torch.bool), rewards)


def _sequences(generated: Any) -> Int[Tensor, "rows seq"]:
    return generated if isinstance(generated, Tensor) else generated.sequences


def _join(parts: Sequence[Candidates], num_prompts: int, pad_token_id: int) -> Candidates:
    """The candidates of several calls, those of a prompt side by side."""
    width = max(part.sequences.shape[1] for part in parts)

    def join(values: Sequence[Tensor]) -> Tensor:
        grouped = [value.view(num_prompts, -1, *value.shape[1:]) for value in values]
        return torch.cat(grouped, dim=1).flatten(0, 1)

    sequences = [
        torch.nn.functional.pad(part.sequences, (0, width - part.sequences.shape[1]), value=pad_token_id)
        for part in parts
    ]
    rewards = [part.rewards for part in parts if part.rewards is not None]
    return Candidates(
        join(sequences),
        join([part.num_tokens for part in parts]),
        join([part.pruned for part in parts]),
        join(rewards) if rewards else None,
    )
