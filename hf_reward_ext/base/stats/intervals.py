"""Means with bootstrap intervals over prompts."""

from collections.abc import Mapping
from numbers import Integral
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean and its confidence interval."""

    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}]"


def check_interval(confidence: float, num_resamples: int) -> None:
    """
    Raise `ValueError` if options of an interval are out of range; see [`mean_with_interval`].

    Args:
        confidence (`float`): Confidence level of the interval.
        num_resamples (`int`): Size of the bootstrap.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be a number above 0 and below 1, got {confidence}. Pass 0.95, say.")
    if isinstance(num_resamples, bool) or not isinstance(num_resamples, Integral) or num_resamples < 1:
        raise ValueError(f"`num_resamples` must be an integer of at least 1, got {num_resamples}. Pass 2000, say.")


def mean_with_interval(
    values: np.ndarray, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Estimate:
    """
    Return the mean over prompts with a percentile bootstrap confidence interval.

    Args:
        values (`np.ndarray` of shape `(prompts,)`): One number per prompt; average candidates and seeds first.
        confidence (`float`, *optional*): Confidence level of the interval.
        num_resamples, seed (`int`, *optional*): Size and random seed of the bootstrap.

    Returns:
        [`Estimate`]

    Raises:
        ValueError: If there are no values, one is NaN, or an option is out of range.

    Example:
    ```python
    >>> mean_with_interval(np.array([1.0, 1.0, 1.0]))
    Estimate(value=1.0, lower=1.0, upper=1.0)
    ```
    """
    from scipy.stats import bootstrap  # takes a second to import

    check_interval(confidence, num_resamples)
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise ValueError(
            f"`values` must be one number per prompt, got shape {values.shape} with {int(np.isnan(values).sum())} NaN. "
            "Average over candidates first."
        )
    if values.size == 1 or (values == values[0]).all():
        return Estimate(float(values[0]), float(values[0]), float(values[0]))
    interval = bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=num_resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(values.mean()), float(interval.low), float(interval.high))


def share_with_interval(
    right: np.ndarray, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Estimate:
    """
    Return [`mean_with_interval`] of values between 0 and 1, with an exact bound if all are 0 or all are 1.

    A bootstrap of equal values has no width. In that case one bound is the exact bound of Clopper and Pearson.

    Example:
    ```python
    >>> share_with_interval(np.ones(10))
    Estimate(value=1.0, lower=0.691..., upper=1.0)
    ```
    """
    right = np.asarray(right, dtype=float)
    estimate = mean_with_interval(right, confidence, num_resamples, seed)
    if (right == 1).all():
        return estimate._replace(lower=1 - clopper_pearson_upper(0, right.size, (1 + confidence) / 2))
    if (right == 0).all():
        return estimate._replace(upper=clopper_pearson_upper(0, right.size, (1 + confidence) / 2))
    return estimate


def clopper_pearson_upper(errors: float, count: int, confidence: float = 0.95) -> float:
    """
    Return the upper bound of an error rate after `errors` in `count` decisions, exact and one-sided.

    Example:
    ```python
    >>> round(clopper_pearson_upper(0, 59), 3)
    0.05
    ```
    """
    from scipy.special import betaincinv

    if errors >= count:
        return 1.0
    return float(betaincinv(errors + 1, count - errors, confidence))


def composite_with_interval(
    groups: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    r"""
    Return a weighted sum of group means, $\sum_g w_g \bar v_g$, with a bootstrap within groups.

    Args:
        groups (`dict` from `str` to `np.ndarray`): Values of each group, one number per row.
        weights (`dict` from `str` to `float`): Weights of the groups that count; they need not sum to 1.
        confidence, num_resamples, seed: As for [`mean_with_interval`].

    Example:
    ```python
    >>> composite_with_interval({"a": np.ones(3), "b": np.zeros(9)}, {"a": 0.5, "b": 0.5}).value
    0.5
    ```
    """
    check_interval(confidence, num_resamples)
    rng = np.random.default_rng(seed)
    value, draws = 0.0, np.zeros(num_resamples)
    for name, weight in weights.items():
        values = np.asarray(groups[name], dtype=float)
        value += weight * float(values.mean())
        for start in range(0, num_resamples, 200):  # limits the memory of the drawn indices
            picked = rng.integers(len(values), size=(min(200, num_resamples - start), len(values)))
            draws[start : start + len(picked)] += weight * values[picked].mean(1)
    lower, upper = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(lower), float(upper))
