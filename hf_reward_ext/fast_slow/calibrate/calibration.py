"""Temperatures and calibration error of verdicts whose truth is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import beta

from hf_reward_ext.fast_slow.judge.judgment import Judgment, Scale

Truth = Sequence[bool] | np.ndarray
_WIDEST = np.log(1e4)


@dataclass(frozen=True)
class Outcomes:
    """
    Decisions whose truth is known; every field is an array with one value each.

    Args:
        intuition, distribution (`np.ndarray`): The confidences.
        fast_right (`np.ndarray`): Whether the fast verdict is right.
        fast_tokens (`np.ndarray`): What it costs.
        slow_right, slow_tokens (`np.ndarray`, *optional*): The same of the written one.
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
        """Some of the decisions."""
        parts = {name: values[rows] for name, values in vars(self).items() if values is not None}
        return Outcomes(**parts)

    def accuracy(self, escalated: np.ndarray) -> float:
        """Share of right decisions if these are escalated; written ones count as right where they were not run."""
        slow_right = np.ones(len(self)) if self.slow_right is None else self.slow_right
        return float(np.where(escalated, slow_right, self.fast_right).mean())

    def token_share(self, escalated: np.ndarray) -> float:
        """Tokens if these are escalated, over those of escalating everyone."""
        if self.slow_tokens is None:
            raise ValueError(
                "These outcomes have no written judgements, so their tokens are unknown. Judge with `mode='slow'` too."
            )
        return float(np.where(escalated, self.slow_tokens, self.fast_tokens).sum() / self.slow_tokens.sum())


def outcomes(fast: Sequence[Judgment], a_is_right: Truth, slow: Sequence[Judgment] | None = None) -> Outcomes:
    """
    Outcomes of fast judgments, and of written ones on the same decisions.

    Args:
        fast (`list` of [`Judgment`]): By `judge(..., mode="fast")`.
        a_is_right (`list` of `bool`): Whether response a is the better one.
        slow (`list` of [`Judgment`], *optional*): By `judge(..., mode="slow")`.
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
    return np.where(scores == 0, 0.5, (scores > 0) == truth)  # a tie is a coin flip


def fit_temperature(nats: Callable[[float], np.ndarray]) -> float:
    r"""
    Temperature with the lowest negative log-likelihood.

    $$ \tau = \arg\min_\tau -\sum_i \log \sigma(z_i(\tau)) $$

    Args:
        nats (`callable`): Log-odds of the truth at a temperature, `(decisions,)`.

    Returns:
        `float`: Between 1e-4 and 1e4.

    Example:
    ```python
    >>> fit_temperature(lambda tau: margins_for_the_truth / tau)
    ```
    """

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -nats(float(np.exp(log_temperature)))).mean())

    # A grid first: written verdicts that are averaged may have several minima.
    grid = np.linspace(-_WIDEST, _WIDEST, 61)
    best = int(np.argmin([loss(point) for point in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(np.exp(_minimum(loss, low, high)))


def _minimum(loss: Callable[[float], float], low: float, high: float) -> float:
    return float(minimize_scalar(loss, bounds=(low, high), method="bounded").x)  # pyright: ignore[reportAttributeAccessIssue]


def fit_fast_temperature(judgments: Sequence[Judgment], a_is_right: Truth, scale: Scale) -> float:
    """Temperature of fast verdicts on decisions whose truth is known; see [`fit_temperature`]."""
    sign = np.where(np.asarray(a_is_right), 1.0, -1.0)
    plain = replace(scale, temperature=1.0)
    scores = sign * np.array([plain.fast_score(one.fast_scores) for one in judgments])
    return fit_temperature(lambda temperature: scores / temperature)


def fit_slow_temperature(judgments: Sequence[Judgment], a_is_right: Truth, scale: Scale) -> float:
    """The same of final verdicts. `scale` has the fast temperature, for rows that wrote none."""
    sign = np.where(np.asarray(a_is_right), 1.0, -1.0)

    def nats(temperature: float) -> np.ndarray:
        at = replace(scale, slow_temperature=temperature, fast_weight=0.0)
        return sign * np.array([at.score(one.fast_scores, one.vote_scores) for one in judgments])

    return fit_temperature(nats)


def fit_fast_weight(judgments: Sequence[Judgment], a_is_right: Truth, scale: Scale) -> float:
    """Weight in [0, 1] of the fast log-odds beside the written ones, by negative log-likelihood."""
    sign = np.where(np.asarray(a_is_right), 1.0, -1.0)
    fast = sign * np.array([scale.fast_score(one.fast_scores) for one in judgments])
    alone = replace(scale, fast_weight=0.0)
    slow = sign * np.array([alone.score(one.fast_scores, one.vote_scores) for one in judgments])

    def loss(weight: float) -> float:
        return float(np.logaddexp(0, -(weight * fast + (1 - weight) * slow)).mean())

    return _minimum(loss, 0.0, 1.0)


def expected_calibration_error(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    r"""
    $\mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|$ over equal-width bins.

    Args:
        probability (`np.ndarray`): Of response a being better.
        truth (`np.ndarray`): Whether it is.
        bins (`int`, *optional*): Between confidences 0.5 and 1.

    Example:
    ```python
    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    ```
    """
    return float(
        sum(abs(right - confidence) * share for confidence, right, share in reliability(probability, truth, bins))
    )


def reliability(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> list[tuple[float, float, float]]:
    """Mean confidence, accuracy and share of the decisions of each bin that has any."""
    probability, truth = np.asarray(probability, float), np.asarray(truth, bool)
    confidence, right = np.maximum(probability, 1 - probability), (probability > 0.5) == truth
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    return [
        (float(confidence[place == one].mean()), float(right[place == one].mean()), float((place == one).mean()))
        for one in range(bins)
        if (place == one).any()
    ]


def clopper_pearson_upper(errors: float, count: int, confidence: float = 0.95) -> float:
    """
    Upper bound of an error rate after `errors` in `count` decisions, exact and one-sided.

    Example:
    ```python
    >>> round(clopper_pearson_upper(0, 59), 3)
    0.05
    ```
    """
    if errors >= count:
        return 1.0
    return float(beta.ppf(confidence, errors + 1, count - errors))
