"""Reference of the win rate of a policy in training."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from transformers import TrainerState

from hf_reward_ext.base.scoring.rewards import Rewards


class Reference:
    """
    Rewards of the reference completions of each prompt.

    They are stored in the trainer's state, so that a resumed run uses the policy at the beginning of the first run.

    Args:
        source (`list`, `PreTrainedModel` or `None`): Completions of each prompt, a policy, or `None` for the
            initial policy in training.
        key (`str`): Key of the rewards in `state.stateful_callbacks`.
    """

    def __init__(self, source, key: str):
        self.source = source
        self.key = key
        self._rewards: dict[str, list[Rewards]] = {}

    def __getitem__(self, prompt_set: str) -> list[Rewards]:
        return self._rewards[prompt_set]

    def is_known(self, prompt_set: str, num_prompts: int, state: TrainerState, first_step: int | None = None) -> bool:
        """
        Return whether the rewards are available, from this run or the resumed one.

        Args:
            prompt_set (`str`): Name of the set of prompts.
            num_prompts (`int`): Number of prompts.
            state (`TrainerState`): State of the trainer.
            first_step (`int`, *optional*): Step at which the training began. Default: the current step.

        Raises:
            ValueError: If the rewards are those of other prompts, or the initial policy is not available.
        """
        self._rewards = {**_stored(state).get(self.key, {}), **self._rewards}
        _stored(state)[self.key] = self._rewards
        rewards = self._rewards.get(prompt_set)
        if rewards is not None and len(rewards) != num_prompts:
            raise ValueError(
                f"The reference has rewards of {len(rewards)} prompts, but the callback has {num_prompts}. Pass the "
                "prompts of the first start, or a new callback for other ones."
            )
        first_step = state.global_step if first_step is None else first_step
        if rewards is None and self.source is None and first_step > 0:
            raise ValueError(
                f"Training is at step {first_step} and the first samples of the policy were not kept, but they "
                "are what it is to win against. Pass `reference=`."
            )
        return rewards is not None

    def keep(self, prompt_set: str, rewards: list[Rewards], state: TrainerState) -> None:
        """
        Store the rewards of a set of prompts.

        Raises:
            ValueError: If none of them has an answer.
        """
        if all(reward is None for group in rewards for reward in group):
            raise ValueError(
                "The reward must have an answer to a completion of the reference, got `None` for all. Pass prompts "
                "that it applies to."
            )
        self._rewards[prompt_set] = rewards
        _stored(state)[self.key] = self._rewards

    @property
    def is_sampled(self) -> bool:
        """`True` if the reference is sampled from a policy."""
        return self.source is None or hasattr(self.source, "generate")

    def completions(self, num_prompts: int) -> list[list[str]] | None:
        """Return the given completions, a list per prompt, or `None` if they are sampled from a policy."""
        if self.is_sampled:
            return None
        if len(self.source) != num_prompts:
            raise ValueError(
                f"`reference` holds completions of {len(self.source)} prompts, but there are {num_prompts}. Pass one "
                "completion, or one list of them, per prompt."
            )
        return [[own] if isinstance(own, str) else list(own) for own in self.source]


def _stored(state: TrainerState) -> dict[str, Any]:
    """Return the part of the trainer's state that callbacks store in checkpoints."""
    return cast(dict, state.stateful_callbacks)


def win_rate(rewards: Sequence[Rewards], reference: Sequence[Rewards], same_seed: bool = False) -> float:
    """
    Return the share of pairs won against the reference, with ties counted half, averaged over prompts.

    Candidates without a reward and prompts without a pair are ignored. Returns NaN if no pair is left.

    Args:
        rewards, reference (`list` of `list[float | None]`): Rewards of the candidates of each prompt.
        same_seed (`bool`, defaults to `False`): Whether candidates with the same index share their random numbers,
            in which case they are not compared. The result is unbiased, and exactly 0.5 for an unchanged policy.

    Example:
    ```python
    >>> win_rate([[1.0, 3.0]], [[2.0]])
    0.5
    ```
    """
    shares = []
    for candidates, others in zip(rewards, reference, strict=True):
        gaps = np.sign(np.subtract.outer(np.array(candidates, float), np.array(others, float)))  # `None` becomes NaN
        compared = ~np.eye(*gaps.shape, dtype=bool) if same_seed and len(candidates) > 1 else np.ones_like(gaps, bool)
        compared &= ~np.isnan(gaps)
        if compared.any():
            shares.append((gaps[compared] + 1).mean() / 2)
    return float(np.mean(shares)) if shares else float("nan")
