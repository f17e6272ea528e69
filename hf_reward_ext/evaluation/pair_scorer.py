"""Scorers that compare two responses."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from hf_reward_ext.fast_slow import FastSlowRewardModel


class PairScorer:
    """
    Marks a callable that compares two responses, for [`evaluate_preferences`].

    Args:
        log_odds (`callable`): `(prompts, responses_a, responses_b) -> numbers`, above 0 where a is better; the first
            response is the one shown first.

    Example:
    ```python
    >>> PairScorer(lambda prompts, a, b: [len(one) - len(other) for one, other in zip(a, b)])
    ```
    """

    def __init__(self, log_odds: Callable):
        self.log_odds = log_odds
        self.__name__ = getattr(log_odds, "__name__", type(log_odds).__name__)

    def compare(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> np.ndarray:
        """
        Log-odds of a over b: with a shown first, with b shown first, and what decides, here the mean of both.

        Returns:
            `np.ndarray` of shape `(pairs, 3)`.
        """
        first = as_numbers(self.log_odds(prompts, responses_a, responses_b))
        second = -as_numbers(self.log_odds(prompts, responses_b, responses_a))
        return np.stack([first, second, (first + second) / 2], axis=-1)


class JudgeScorer(PairScorer):
    """
    A [`FastSlowRewardModel`] with pairwise verdicts, asked as it is configured.

    With `both_orders` one decision holds the verdicts of both orders and decides by its own mean; without, it is
    asked twice.
    """

    def __init__(self, judge: FastSlowRewardModel):
        super().__init__(lambda *pairs: [one.score for one in judge.judge(*pairs, show_progress=False)])
        self.judge = judge
        self.__name__ = type(judge).__name__

    def compare(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> np.ndarray:
        """As of [`PairScorer`]."""
        if not self.judge.config.both_orders:
            return super().compare(prompts, responses_a, responses_b)
        one_order = replace(self.judge.scale, pairing="none")
        return np.array(
            [
                [
                    one_order.score(one.fast_scores[:1], one.vote_scores[:1]),
                    -one_order.score(one.fast_scores[1:], one.vote_scores[1:]),
                    one.score,
                ]
                for one in self.judge.judge(prompts, responses_a, responses_b, show_progress=False)
            ]
        )


def as_numbers(found) -> np.ndarray:
    """What a scorer returned, in double precision."""
    return found.double().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found, dtype=float)
