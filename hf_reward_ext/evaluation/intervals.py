"""Means with bootstrap intervals over prompts."""

from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap


class Estimate(NamedTuple):
    """A mean and the ends of its confidence interval."""

    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}]"


def mean_with_interval(
    values: np.ndarray, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Estimate:
    """
    Mean over prompts with a percentile bootstrap interval.

    Args:
        values (`np.ndarray` of shape `(prompts,)`): One number per prompt; average candidates and seeds first.
        confidence (`float`, *optional*): Of the interval.
        num_resamples, seed (`int`, *optional*): Of the bootstrap.

    Returns:
        [`Estimate`]

    Raises:
        ValueError: If there are no values or one is NaN.

    Example:
    ```python
    >>> mean_with_interval(np.array([1.0, 1.0, 1.0]))
    Estimate(value=1.0, lower=1.0, upper=1.0)
    ```
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise ValueError(
            f"Values of shape {values.shape} were given, {int(np.isnan(values).sum())} of them NaN, but an interval "
            "needs one number per prompt. Average over candidates first."
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
