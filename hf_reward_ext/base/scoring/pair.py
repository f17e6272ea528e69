"""Scorers that compare two responses."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from hf_reward_ext.base.options import check_callable
from hf_reward_ext.base.scoring.rewards import check_rewards


class PairScorer:
    """
    Wrapper of a callable that compares two responses, for [`evaluate_preferences`].

    Args:
        log_odds (`callable`): `(prompts, responses_a, responses_b) -> numbers`, above 0 where a is better; the first
            response is shown first. `None` means no answer.

    Example:
    ```python
    >>> PairScorer(lambda prompts, a, b: [len(x) - len(y) for x, y in zip(a, b)])
    ```
    """

    def __init__(self, log_odds: Callable):
        check_callable("log_odds", log_odds, ["prompts", "responses_a", "responses_b"])
        self.log_odds = log_odds
        self.__name__ = getattr(log_odds, "__name__", type(log_odds).__name__)

    def compare(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> Float[np.ndarray, "pairs 3"]:
        """
        Return the log-odds of a over b: with a shown first, with b shown first, and the mean of both.

        Returns:
            `np.ndarray` of shape `(pairs, 3)`; NaN if there is no answer for an order.
        """
        first = self._numbers(prompts, responses_a, responses_b)
        second = -self._numbers(prompts, responses_b, responses_a)
        return np.stack([first, second, (first + second) / 2], axis=-1)

    def check(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> None:
        """Raise the errors about texts that a comparison would raise, before any forward; a function has none."""

    def _numbers(self, prompts: Sequence, *responses: Sequence) -> np.ndarray:
        odds = check_rewards(self.log_odds(prompts, *responses), prompts, self.__name__)
        return np.array([np.nan if value is None else value for value in odds], dtype=float)
