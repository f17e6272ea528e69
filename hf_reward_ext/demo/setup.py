"""Policy, sizes and shared samples of a demo run."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hf_reward_ext.demo import walk
from hf_reward_ext.demo.elhsr import TEMPERATURE, prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import Rollouts, sample

SAMPLES = 8  # of each training walk, for pairs of right and wrong walks


@dataclass(frozen=True)
class TourSize:
    """
    Sizes of a demo run.

    Args:
        num_train, num_test (`int`): Number of labeled completions of arithmetic problems, and of held-out problems;
            the other tasks use half as many.
        num_walks (`int`): Number of walks that are sampled for pairs.
        guide_steps, style_steps (`int`): Number of training steps of the two guides.
        channel_epochs, head_epochs (`int`): Number of epochs of the reward channel and of the heads.
        judge_pairs (`int`): Number of training pairs of the judge, in each of two rounds.
        seconds (`dict` from `str` to `int`): Seconds that each method takes on two CPU cores with nothing else running.
    """

    num_train: int
    num_test: int
    num_walks: int
    guide_steps: int
    style_steps: int
    channel_epochs: int
    head_epochs: int
    judge_pairs: int
    seconds: dict[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, int]:
        """All numbers that results depend on."""
        return {name: value for name, value in vars(self).items() if name != "seconds"}


class Setup:
    """
    Policy and settings of a demo run, with the samples that several methods are trained on.

    Args:
        folder (`Path`): Output folder.
        size ([`TourSize`]): Sizes.
        seed (`int`): Random seed.
        policy_folder (`Path`, *optional*): Folder of the policy. Default: the policy of the package.
    """

    def __init__(self, folder: Path, size: TourSize, seed: int, policy_folder: Path | None = None):
        self.folder, self.size, self.seed, self.policy_folder = folder, size, seed, policy_folder
        self.policy: Any
        self.policy, self.tokenizer = load_policy(policy_folder)

    @cached_property
    def walks(self) -> Rollouts:
        """Samples of training walks."""
        prompts = prompts_of(walk, "train", self.size.num_walks, self.seed)
        return self.sample(prompts, walk, SAMPLES, TEMPERATURE, name="training walks", prompts_per_batch=64)

    def test_walks(self) -> list[str]:
        """Return held-out walks."""
        return prompts_of(walk, "test", self.size.num_test // 2, self.seed)

    def sample(self, prompts: list[str], task: Any, num_candidates: int, temperature: float, **settings) -> Rollouts:
        """Sample candidates that depend on the seed and their prompt only."""
        return sample(
            self.policy, self.tokenizer, prompts, task, num_candidates=num_candidates, temperature=temperature,
            seed=self.seed, **settings,
        )  # fmt: skip

    def policy_copy(self):
        """Return a copy of the policy to train."""
        torch.manual_seed(self.seed)
        return load_policy(self.policy_folder)[0]
