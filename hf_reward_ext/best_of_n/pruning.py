"""Best-of-N sampling that stops weak candidates early."""

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
    Settings of successive halving by the reward of partial completions.

    After `steps[i]` tokens the best `ceil(num_candidates * keep ** (i + 1))` candidates of each prompt are kept,
    unless `max_gap` or `min_reward` excludes them. Finished candidates are never dropped, since that would save
    nothing. A head that is also trained on prefixes scores them better.

    Args:
        steps (`tuple[int, ...]`): Completion lengths, ascending, at which candidates are compared.
        keep (`float`, *optional*, defaults to 0.5): Share to keep at each step, in (0, 1]; with 1 only `max_gap` and
            `min_reward` apply.
        max_gap (`float`, *optional*): Maximum difference to the best reward of the prompt, beyond which candidates are
            dropped. For a head trained with `"bce"` it is a difference of log-odds of being correct.
        min_reward (`float`, *optional*): Minimum reward, below which candidates are dropped, except the best of the
            prompt. [`warm_up_threshold`] computes it from finished candidates.

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
        """Return the number of candidates of a prompt that are kept after step number `rung` (from 0)."""
        return max(1, math.ceil(num_candidates * self.keep ** (rung + 1)))

    def leaders(self, rung: int, rewards: Float[Tensor, "prompts candidates"]) -> Bool[Tensor, "prompts candidates"]:
        """Return which candidates are kept after step number `rung` (from 0); rewards of dropped ones are -inf."""
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
    Return the completion lengths in ascending order.

    Raises:
        TypeError: If one is not an integer.
        ValueError: If there are none, one is below 1, or they do not ascend.
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
    Return the reward that a share of finished candidates reaches, for `Pruning(min_reward=...)`.

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
