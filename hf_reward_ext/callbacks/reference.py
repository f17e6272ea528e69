"""The reference for the win rate of a policy in training."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from transformers import TrainerState

from hf_reward_ext.base.scoring.rewards import Rewards


class Reference:
    """
    Rewards of the reference completions of each prompt, which outlive the policy that wrote them.

    They travel in the trainer's state, so that a resumed run compares with the policy of the first start.

    Args:
        source (`list`, `PreTrainedModel` or `None`): Completions of each prompt, a policy, or `None` for the policy in
            training as it is at first.
        key (`str`): Their key in `state.stateful_callbacks`.
    """

    def __init__(self, source, key: str):
        self.source = source
        self.key = key
        self._rewards: dict[str, list[Rewards]] = {}

    def __getitem__(self, prompt_set: str) -> list[Rewards]:
        return self._rewards[prompt_set]

    def is_known(self, prompt_set: str, num_prompts: int, state: TrainerState, first_step: int | None = None) -> bool:
        """
        Looks for the rewards, from this run or from the one that is resumed.

        Args:
            prompt_set (`str`): Name of the set of prompts.
            num_prompts (`int`): Its size.
            state (`TrainerState`): The trainer's.
            first_step (`int`, *optional*): Step at which the training began. Default: the present one.

        Raises:
            ValueError: If they are those of other prompts, or the initial policy is gone.
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
        Keeps the rewards of a set of prompts.

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
        """`True` if a policy writes it."""
        return self.source is None or hasattr(self.source, "generate")

    def completions(self, num_prompts: int) -> list[list[str]] | None:
        """Those that were given, a list per prompt; `None` where a policy writes them."""
        if self.is_sampled:
            return None
        if len(self.source) != num_prompts:
            raise ValueError(
                f"`reference` holds completions of {len(self.source)} prompts, but there are {num_prompts}. Pass one "
                "completion, or one list of them, per prompt."
            )
        return [[own] if isinstance(own, str) else list(own) for own in self.source]


def _stored(state: TrainerState) -> dict[str, Any]:
    """The part of a trainer's state that callbacks write into checkpoints."""
    return cast(dict, state.stateful_callbacks)


def win_rate(rewards: Sequence[Rewards], reference: Sequence[Rewards], same_seed: bool = False) -> float:
    """
    Share of pairs in which the reward is above the reference's, ties half, averaged over prompts.

    Candidates without an answer are not compared, and prompts without a pair do not count; NaN if none is left.

    Args:
        rewards, reference (`list` of `list[float | None]`): Rewards of the candidates of each prompt.
        same_seed (`bool`, defaults to `False`): Candidates in the same place share their random numbers and are not
            compared. What remains is unbiased, and exactly one half for a policy that did not change.

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
