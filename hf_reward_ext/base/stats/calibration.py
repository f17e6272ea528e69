"""Calibration of probabilities: calibration error and temperature fitting."""

from collections.abc import Callable

import numpy as np

_WIDEST = np.log(1e4)


def fit_temperature(nats: Callable[[float], np.ndarray]) -> float:
    r"""
    Return the temperature with the lowest negative log-likelihood.

    $$ \tau = \arg\min_\tau -\sum_i \log \sigma(z_i(\tau)) $$

    Args:
        nats (`callable`): Function from a temperature to the log-odds of the truth, `(decisions,)`, in nats.

    Returns:
        `float`: Temperature between 1e-4 and 1e4.

    Example:
    ```python
    >>> fit_temperature(lambda tau: margins_for_the_truth / tau)
    ```
    """

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -nats(float(np.exp(log_temperature)))).mean())

    # A grid first, because averages of written verdicts may have several minima.
    grid = np.linspace(-_WIDEST, _WIDEST, 61)
    best = int(np.argmin([loss(point) for point in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(np.exp(minimize_between(loss, low, high)))


def minimize_between(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return the minimizer of a function of one variable between two bounds."""
    from scipy.optimize import minimize_scalar

    return float(minimize_scalar(loss, bounds=(low, high), method="bounded").x)  # pyright: ignore[reportAttributeAccessIssue]


def expected_calibration_error(probability: np.ndarray, truth: np.ndarray, num_bins: int = 10) -> float:
    r"""
    Return the expected calibration error over equal-width bins.

    $$ \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b| $$

    Args:
        probability (`np.ndarray`): Probability that response a is better.
        truth (`np.ndarray`): `True` if it is better.
        num_bins (`int`, *optional*, defaults to 10): Number of bins between confidences 0.5 and 1.

    Example:
    ```python
    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    ```
    """
    return float(
        sum(abs(right - confidence) * share for confidence, right, share in reliability(probability, truth, num_bins))
    )


def reliability(probability: np.ndarray, truth: np.ndarray, num_bins: int = 10) -> list[tuple[float, float, float]]:
    """Return mean confidence, accuracy and share of decisions of each nonempty bin."""
    probability, truth = np.asarray(probability, float), np.asarray(truth, bool)
    confidence, right = np.maximum(probability, 1 - probability), (probability > 0.5) == truth
    bins = np.minimum(((confidence - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
    return [
        (float(confidence[bins == index].mean()), float(right[bins == index].mean()), float((bins == index).mean()))
        for index in range(num_bins)
        if (bins == index).any()
    ]
