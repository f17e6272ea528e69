"""Sampling of candidates with a prompt that is read once."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.lm.draws import Draws, candidate_draws, drawing
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.best_of_n.fitting import FittingBatches
from hf_reward_ext.best_of_n.options import BestOfNOptions
from hf_reward_ext.best_of_n.pruning import Pruning
from hf_reward_ext.best_of_n.reading import ReadReward, open_reader
from hf_reward_ext.best_of_n.resampling import Resampling
from hf_reward_ext.best_of_n.staged import generate_staged


class CandidateSampler:
    """
    Sampler of completions of a batch of prompts.

    Args:
        policy (`PreTrainedModel`): Model that generates.
        reward ([`ELHSRModel`] or [`Measure`], *optional*): Reward that is computed during generation.
        input_ids, attention_mask (`torch.Tensor` of shape `(batch, seq)`): Prompts, padded on the left.
        prune ([`Pruning`] or [`Resampling`], *optional*): Rule that stops or replaces weak candidates.
        generate_kwargs (`dict`): Arguments of `generate`.
    """

    def __init__(
        self,
        policy: Any,
        reward: ReadReward | None,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        prune: Pruning | Resampling | None,
        generate_kwargs: dict[str, Any],
    ):
        self.policy = policy
        self.reward = reward
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self.prune = prune
        self.generate_kwargs = generate_kwargs
        self._prefill = SharedPrefill(policy, input_ids, attention_mask) if prune is None else None

    def prompt_ids(self) -> list[list[int]]:
        """Return the ids of the remaining prompts, without padding."""
        return [ids[mask.bool()].tolist() for ids, mask in zip(self.input_ids, self.attention_mask, strict=True)]

    def select(self, prompts: Sequence[int]) -> None:
        """Keep the selected prompts only."""
        self.input_ids, self.attention_mask = self.input_ids[prompts], self.attention_mask[prompts]
        if self._prefill is not None:
            self._prefill.select(prompts)

    def sample(self, count: int, draws: Draws | None = None, last_use: bool = True) -> Candidates:
        """
        Sample completions of every remaining prompt.

        Args:
            count (`int`): Number of completions per prompt.
            draws ([`Draws`], *optional*): Random numbers of the rows; not with pruning, which removes rows.
            last_use (`bool`, *optional*, defaults to `True`): Whether the cache of the prompts may be consumed.

        Returns:
            [`Candidates`], with rewards if there is a reward.
        """
        if self.prune is not None:
            reader = open_reader(cast(ReadReward, self.reward), self.policy)
            return generate_staged(
                self.policy, reader, self.input_ids, self.attention_mask, count, self.prune, **self.generate_kwargs
            )
        prefill = cast(SharedPrefill, self._prefill)
        watched = watch_row_ends(self.policy) if self.reward is None else open_reader(self.reward, self.policy)
        with watched as watcher, drawing(self.policy, draws) if draws else nullcontext():
            generated = prefill.generate(count, last_use=last_use, **self.generate_kwargs)
        sequences = generated if isinstance(generated, Tensor) else generated.sequences
        if self.reward is None:
            rewards, mask = None, watcher.completion_mask(sequences, self.input_ids.shape[1])  # pyright: ignore
        else:
            rewards, mask = watcher.rewards, watcher.completion_mask  # pyright: ignore
        num_tokens = mask.sum(-1)  # pyright: ignore
        return Candidates(sequences, num_tokens, torch.zeros_like(num_tokens, dtype=torch.bool), rewards)


def sample_candidates(sampler: CandidateSampler, options: BestOfNOptions, pad_token_id: int) -> Candidates:
    """
    Sample `options.num_candidates` completions of every prompt, at most `options.candidates_per_batch` at a time.

    Args:
        sampler ([`CandidateSampler`]): Sampler of the prompts.
        options ([`BestOfNOptions`]): Options of the pipeline.
        pad_token_id (`int`): Id that fills shorter candidates.

    Returns:
        [`Candidates`], with rewards if there is a reward.
    """
    count = options.most_candidates
    chunk = min(cast(int | None, options.candidates_per_batch) or count, count)
    counts = [min(chunk, count - start) for start in range(0, count, chunk)]
    parts = [sampler.sample(part, last_use=number == len(counts)) for number, part in enumerate(counts, start=1)]
    return _join(parts, len(sampler.input_ids), pad_token_id)


def sample_fitting(
    sampler: CandidateSampler, count: int, fitting: FittingBatches, seed: int, pad_token_id: int
) -> Candidates:
    """
    Sample completions of every prompt, as many at a time as fit in memory.

    A candidate depends on seed, prompt and its number only, and not on what fits, up to rounding.

    Args:
        sampler ([`CandidateSampler`]): Sampler of the prompts, without pruning.
        count (`int`): Number of completions per prompt.
        fitting ([`FittingBatches`]): Batches that fit.
        seed (`int`): Random seed.
        pad_token_id (`int`): Id that fills shorter candidates.

    Returns:
        [`Candidates`], with rewards if there is a reward.
    """
    prompts = sampler.prompt_ids()

    def sample(numbers: range) -> Candidates:
        return sampler.sample(len(numbers), candidate_draws(seed, prompts, numbers), last_use=False)

    return _join(list(fitting.sample(range(count), len(prompts), sample)), len(prompts), pad_token_id)


def _join(parts: Sequence[Candidates], num_prompts: int, pad_token_id: int) -> Candidates:
    """Join the candidates of several calls, with those of one prompt adjacent."""
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
