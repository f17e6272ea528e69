"""Samples of the constraint task that all methods share, and the features of their tokens for heads."""

from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset

from examples.demo_llm.pairs import preference_pairs
from examples.demo_llm.sampling import Candidate, sample
from examples.real_tasks.sizes import Size
from examples.tasks import constraints
from examples.tasks.constraints import Problem
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.elhsr.feature_cache import FeatureCache
from hf_reward_ext.elhsr.model import gated_mean, prefix_gated_mean


@dataclass(frozen=True)
class Pool:
    """
    Problems of each split with their sampled candidates.

    Args:
        problems (`dict`): Problems by split.
        groups (`dict`): Candidates of each problem, by split.
    """

    problems: dict[str, list[Problem]]
    groups: dict[str, list[list[Candidate]]]

    def pairs(self, split: str, count: int, seed: int) -> list[dict]:
        """Return pairs of a right and a wrong candidate; see [`preference_pairs`]."""
        return preference_pairs(self.groups[split], count, seed)

    def as_chats(self, pairs: list[dict]) -> Dataset:
        """Return pairs of training problems as rows of messages."""
        return Dataset.from_list(
            [
                {
                    "prompt": self.problems["train"][pair["index"]].messages,
                    **{side: [{"role": "assistant", "content": pair[side].text}] for side in ("chosen", "rejected")},
                }
                for pair in pairs
            ]
        )


def draw(policy, tokenizer, folder: Path, size: Size) -> Pool:
    """Sample the candidates of every split, or read those that are on disk."""
    counts = {
        "train": (size.num_train, size.num_samples, 16),
        "validation": (size.num_validation, size.num_samples, 16),
        "test": (size.num_test, size.num_candidates, 2),
    }
    problems = {split: constraints.problems(split, count) for split, (count, _, _) in counts.items()}  # pyright: ignore[reportArgumentType]
    groups = {
        split: sample(
            policy,
            tokenizer,
            problems[split],
            folder / split,
            num_candidates=count,
            prompts_per_batch=prompts,
            seed=number,
            name=f"samples for {split}",
        )
        for number, (split, (_, count, prompts)) in enumerate(counts.items())
    }
    return Pool(problems, groups)


def rows_of(groups: list[list[Candidate]]) -> Dataset:
    """Return one row per problem, with the token ids and labels of its candidates."""
    return Dataset.from_list(
        [
            {
                "prompt_ids": group[0].prompt_ids,
                "completion_ids": [one.completion_ids for one in group],
                "labels": [float(one.is_right) for one in group],
            }
            for group in groups
        ]
    )


def features_of(policy, head: ELHSRModel, groups: list[list[Candidate]], folder: Path) -> FeatureCache:
    """Return the features that a head reads, of every token of every candidate; kept on disk."""
    cache = FeatureCache(rows_of(groups), head.config, policy, folder)
    cache.fill(batch_size=32)
    return cache


@torch.no_grad()
def prefix_rewards(head: ELHSRModel, cache: FeatureCache, row: int, count: int) -> list[torch.Tensor]:
    """Return the reward of the text up to each token, for the first `count` candidates of a problem."""
    found = []
    for index in range(count):
        gates, rewards = head.token_rewards(cache.completion(row, index)[None])
        found.append(prefix_gated_mean(gates, rewards, torch.ones_like(gates, dtype=torch.bool))[0])
    return found


@torch.no_grad()
def rewards_of(head: ELHSRModel, cache: FeatureCache, row: int, count: int) -> list[float]:
    """Return the rewards of the first `count` candidates of a problem."""
    found = []
    for index in range(count):
        gates, rewards = head.token_rewards(cache.completion(row, index)[None])
        found.append(gated_mean(gates, rewards, torch.ones_like(gates, dtype=torch.bool)).item())
    return found
