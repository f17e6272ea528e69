"""Calibration of reward margins as probabilities."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_reward_ext.base.stats.calibration import expected_calibration_error, fit_temperature, reliability
from hf_reward_ext.evaluation.plots import plot_reliability


@dataclass(frozen=True)
class Calibration:
    """
    Fit of $P(\\text{chosen} \\succ \\text{rejected}) = \\sigma(\\Delta r)$.

    Args:
        ece (`float`): Expected calibration error, over equal-width bins of confidence between 0.5 and 1.
        chance (`float`): Mean error of a perfectly calibrated scorer with these confidences on as many pairs. An
            `ece` close to it shows no miscalibration.
        nll (`float`): Mean negative log-likelihood of the truth, in nats.
        temperature (`float`): Divisor of the margins with the lowest `nll`; above 1 the scorer is overconfident.
        ece_after (`float`): Calibration error with fitted temperatures, each half of the pairs with that of the other.
        bins (`list` of `tuple`): Mean confidence, accuracy and share of the pairs of each nonempty bin.
    """

    ece: float
    chance: float
    nll: float
    temperature: float
    ece_after: float
    bins: list[tuple[float, float, float]]

    def plot(self, path: str | Path, title: str | None = None) -> None:
        """Write the reliability plot. Needs matplotlib."""
        plot_reliability(self.bins, path, title=title or f"ECE {self.ece:.3f} (by chance {self.chance:.3f})")


def bradley_terry_calibration(margins: np.ndarray, num_bins: int = 10, seed: int = 0) -> Calibration:
    r"""
    Measure the calibration of a scorer by its margins of chosen over rejected.

    $$ p = \sigma(\Delta r), \qquad \mathrm{ECE} = \sum_b \frac{n_b}{n} \left| \mathrm{accuracy}_b -
    \mathrm{confidence}_b \right|, \qquad \mathrm{confidence} = \max(p, 1 - p) $$

    Args:
        margins (`np.ndarray` of shape `(pairs,)`): Reward of the chosen minus that of the rejected response, in nats.
        num_bins (`int`, *optional*): Number of bins between the confidences 0.5 and 1.
        seed (`int`, *optional*): Random seed of the split in halves and of the simulated scorers.

    Raises:
        ValueError: If there are fewer than two margins, or one is NaN.

    Example:
    ```python
    >>> bradley_terry_calibration(np.array([2.0, 1.0, -1.0, 3.0])).ece
    ```
    """
    margins = np.asarray(margins, dtype=float)
    if margins.ndim != 1 or margins.size < 2 or np.isnan(margins).any():
        raise ValueError(
            f"`margins` must be one number for each of two or more pairs, got shape {margins.shape} with "
            f"{int(np.isnan(margins).sum())} NaN. Leave out pairs without a margin."
        )
    rng = np.random.default_rng(seed)
    half = rng.permutation(margins.size) % 2 == 0
    scaled = np.where(half, margins / _temperature(margins[~half]), margins / _temperature(margins[half]))
    probability = _sigmoid(margins)
    return Calibration(
        ece=_error(margins, num_bins),
        chance=_chance(probability, num_bins, rng),
        nll=float(np.logaddexp(0, -margins).mean()),
        temperature=_temperature(margins),
        ece_after=_error(scaled, num_bins),
        bins=reliability(probability, np.ones(margins.size), num_bins),
    )


def _temperature(margins: np.ndarray) -> float:
    return fit_temperature(lambda temperature: margins / temperature)


def _error(margins: np.ndarray, num_bins: int) -> float:
    return expected_calibration_error(_sigmoid(margins), np.ones(margins.size), num_bins)


def _chance(probability: np.ndarray, num_bins: int, rng: np.random.Generator, draws: int = 200) -> float:
    truths = rng.random((draws, probability.size)) < probability
    return float(np.mean([expected_calibration_error(probability, truth, num_bins) for truth in truths]))


def _sigmoid(margins: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -margins))
