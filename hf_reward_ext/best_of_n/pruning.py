"""Best-of-N that stops weak candidates early."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_reward_ext.base.options import check_count, check_number


@dataclass(frozen=True)
class Pruning:
    """
    Successive halving by the reward of what is written so far.

    After `steps[i]` tokens the best `ceil(num_candidates * keep ** (i + 1))` candidates of each prompt stay, and of
    those the ones that are not hopelessly behind the best. Finished candidates are never dropped, since nothing is
    saved by it. A head that is trained on prefixes too judges them better.

    Args:
        steps (`tuple[int, ...]`): Completion lengths, ascending, at which candidates are compared.
        keep (`float`, *optional*, defaults to 0.5): Share that stays at each step, in (0, 1]; 1 leaves it to `max_gap`
            and `min_reward`.
        max_gap (`float`, *optional*): Candidates whose reward is lower than the best of their prompt by more than this
            are dropped. For a head trained with `"bce"` it is a difference of log-odds of being correct.
        min_reward (`float`, *optional*): Candidates whose reward is lower are dropped, but the best of their prompt.
            [`warm_up_threshold`] takes it from finished candidates.

    Example:
    ```python
    >>> pipe(prompt, num_candidates=16, prune=Pruning(steps=(16, 32, 64)))  # 16 -> 8 -> 4 -> 2
    ```
    """

    steps: tuple[int, ...]
    keep: float = 0.5
    max_gap: float | None = None
    min_reward: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "steps", check_steps(self.steps))
        check_number("keep", self.keep, above=0, most=1)
        if self.max_gap is not None:
            check_number("max_gap", self.max_gap, least=0)
        if self.min_reward is not None:
            check_number("min_reward", self.min_reward)
        if self.keep == 1 and self.max_gap is None and self.min_reward is None:
            raise ValueError(
                "`keep` must be below 1 without `max_gap` and `min_reward`, got 1, which drops nothing. Pass for "
                "example 0.5."
            )

    def survivors(self, rung: int, num_candidates: int) -> int:
        """How many candidates of a prompt stay after step number `rung` (from 0)."""
        return max(1, math.ceil(num_candidates * self.keep ** (rung + 1)))

    def leaders(self, rung: int, rewards: Float[Tensor, "prompts candidates"]) -> Bool[Tensor, "prompts candidates"]:
        """Which candidates stay after step number `rung` (from 0); rewards are -inf for those dropped before."""
        order = rewards.argsort(dim=-1, descending=True, stable=True)
        survivors = self.survivors(rung, rewards.shape[-1])
        stay = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order[:, :survivors], True)
        best = rewards.max(-1, keepdim=True).values
        if self.max_gap is not None:
            stay &= rewards >= best - self.max_gap
        if self.min_reward is not None:
            stay &= (rewards >= self.min_reward) | (rewards == best)
        return stay


def check_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """
    Completion lengths in ascending order.

    Raises:
        TypeError: If one is not an integer.
        ValueError: If there is none, one is below 1, or they do not ascend.
    """
    steps = tuple(steps)
    for step in steps:
        check_count("steps", step)
    if not steps or list(steps) != sorted(set(steps)):
        raise ValueError(
            f"`steps` must be ascending completion lengths, got {steps}. Pass for example `steps=(16, 32)`."
        )
    return steps


def warm_up_threshold(rewards: Sequence[float], keep: float) -> float:
    """
    The reward that a share of finished candidates reaches, for `Pruning(min_reward=...)`.

    [DeepConf](https://huggingface.co/papers/2508.15260), section 3.3: the percentile $100 - \\eta$ of the lowest group
    confidences of a few candidates written in full (there 16; 10 or 90 % are kept).

    Args:
        rewards (`list[float]`): Rewards of warm-up candidates.
        keep (`float`): Share $\\eta / 100$ of them that is not below the threshold, in (0, 1].

    Raises:
        TypeError: If `keep` or a reward is not a number.
        ValueError: If `keep` is out of its range, or a reward is missing or not finite.

    Example:
    ```python
    >>> warm_up = pipe(prompt, num_candidates=16, return_all=True)
    >>> threshold = warm_up_threshold([record["score"] for record in warm_up], keep=0.9)
    >>> pipe(prompt, num_candidates=48, prune=Pruning((64, 128, 256), keep=1, min_reward=threshold))
    ```
    """
    check_number("keep", keep, above=0, most=1)
    if not len(rewards):
        raise ValueError("`rewards` must hold those of the warm-up candidates, got none. Sample some first.")
    for index, reward in enumerate(rewards):
        check_number(f"rewards[{index}]", reward)
    return float(sorted(rewards, reverse=True)[math.ceil(keep * len(rewards) - 1e-9) - 1])
