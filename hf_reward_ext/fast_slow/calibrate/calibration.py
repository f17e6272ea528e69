"""Temperatures and weights fitted to verdicts with known truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hf_reward_ext.base.stats.calibration import fit_temperature, minimize_between
from hf_reward_ext.fast_slow.judge.judgment import Judgment, ScoreCalibration

Truth = Sequence[bool] | np.ndarray


@dataclass(frozen=True)
class Outcomes:
    """
    Decisions with known truth; every field is an array with one value per decision.

    Args:
        intuition, distribution (`np.ndarray`): Confidences of the fast verdicts.
        fast_right (`np.ndarray`): `True` if the fast verdict is correct.
        fast_tokens (`np.ndarray`): Number of tokens of the fast verdict.
        slow_right, slow_tokens (`np.ndarray`, *optional*): The same for the written judgment.
    """

    intuition: np.ndarray
    distribution: np.ndarray
    fast_right: np.ndarray
    fast_tokens: np.ndarray
    slow_right: np.ndarray | None = None
    slow_tokens: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.fast_right)

    def take(self, rows: np.ndarray) -> "Outcomes":
        """Return selected decisions."""
        parts = {name: values[rows] for name, values in vars(self).items() if values is not None}
        return Outcomes(**parts)

    def accuracy(self, escalated: np.ndarray) -> float:
        """Return the accuracy if `escalated` decisions are escalated; missing written judgments count as correct."""
        return float(self.right(escalated).mean())

    def right(self, escalated: np.ndarray) -> np.ndarray:
        """Return which decisions are correct if `escalated` ones are escalated; a tie counts half."""
        slow_right = np.ones(len(self)) if self.slow_right is None else self.slow_right
        return np.where(escalated, slow_right, self.fast_right)

    def token_share(self, escalated: np.ndarray) -> float:
        """Return the number of tokens relative to escalating all decisions."""
        if self.slow_tokens is None:
            raise ValueError(
                "These outcomes have no written judgments, so their tokens are unknown. Judge with `mode='slow'` too."
            )
        return float(np.where(escalated, self.slow_tokens, self.fast_tokens).sum() / self.slow_tokens.sum())


def outcomes(fast: Sequence[Judgment], a_is_right: Truth, slow: Sequence[Judgment] | None = None) -> Outcomes:
    """
    Return the outcomes of fast judgments, and of written judgments on the same decisions.

    Args:
        fast (`list` of [`Judgment`]): Fast verdicts of `judge(..., mode="fast")`.
        a_is_right (`list` of `bool`): Whether response a is the better one.
        slow (`list` of [`Judgment`], *optional*): Written judgments of `judge(..., mode="slow")`.
    """
    truth = np.asarray(a_is_right)
    return Outcomes(
        intuition=np.array([one.intuition for one in fast]),
        distribution=np.array([one.distribution for one in fast]),
        fast_right=_right(fast, truth),
        fast_tokens=np.array([one.num_tokens for one in fast]),
        slow_right=None if slow is None else _right(slow, truth),
        slow_tokens=None if slow is None else np.array([one.num_tokens for one in slow]),
    )


def _right(judgments: Sequence[Judgment], truth: np.ndarray) -> np.ndarray:
    scores = np.array([one.score for one in judgments])
    return np.where(scores == 0, 0.5, (scores > 0) == truth)  # a tie counts half


def fit_fast_temperature(
    judgments: Sequence[Judgment], a_is_right: Truth, score_calibration: ScoreCalibration
) -> float:
    """Fit the temperature of fast verdicts to decisions with known truth; see [`fit_temperature`]."""
    sign = np.where(np.asarray(a_is_right), 1.0, -1.0)
    plain = replace(score_calibration, temperature=1.0)
    scores = sign * np.array([plain.fast_score(one.fast_scores) for one in judgments])
    return fit_temperature(lambda temperature: scores / temperature)


def fit_slow_temperature(
    judgments: Sequence[Judgment], a_is_right: Truth, score_calibration: ScoreCalibration
) -> float:
    """Fit the temperature of final verdicts; rows without one use the fast temperature."""
    sign = np.where(np.asarray(a_is_right), 1.0, -1.0)

    def nats(temperature: float) -> np.ndarray:
        at = replace(score_calibration, slow_temperature=temperature, fast_vote_weight=0.0)
        return sign * np.array([at.score(one.fast_scores, one.vote_scores) for one in judgments])

    return fit_temperature(nats)


def fit_fast_vote_weight(
    judgments: Sequence[Judgment], a_is_right: Truth, score_calibration: ScoreCalibration
) -> float:
    """Fit the weight in [0, 1] of the fast log-odds by the negative log-likelihood."""
    sign = np.where(np.asarray(a_is_right), 1.0, -1.0)
    fast = sign * np.array([score_calibration.fast_score(one.fast_scores) for one in judgments])
    alone = replace(score_calibration, fast_vote_weight=0.0)
    slow = sign * np.array([alone.score(one.fast_scores, one.vote_scores) for one in judgments])

    def loss(weight: float) -> float:
        return float(np.logaddexp(0, -(weight * fast + (1 - weight) * slow)).mean())

    return minimize_between(loss, 0.0, 1.0)
