"""Monitoring of a judge in use for changes since its calibration."""

import warnings
from collections import deque
from collections.abc import Sequence

import numpy as np

from hf_reward_ext.fast_slow.judge.judgment import Judgment


class DriftMonitor:
    """
    Monitor of the escalation rate and the verdict mass of the latest judgments.

    It warns once when either value differs from the calibration: the rate by a binomial test, the mass by a z-test of
    its mean. Such a difference means that the inputs differ from the held-out set, where thresholds and bounds hold.

    Args:
        calibration (`dict`): Calibration stored in the checkpoint: `escalation_rate`, `mass_mean`, `mass_std`.
        window (`int`, *optional*): Number of latest judgments to test.
        minimum (`int`, *optional*): Minimum number of judgments for a test.
        p_value (`float`, *optional*): Probability of a false alarm in each test.

    Example:
    ```python
    >>> monitor = DriftMonitor(rm.config.calibration)
    >>> monitor.update(rm.judge(prompts, a, b))
    ```
    """

    def __init__(self, calibration: dict, window: int = 500, minimum: int = 100, p_value: float = 1e-4):
        self.calibration = calibration
        self.minimum = minimum
        self.p_value = p_value
        self._latest: deque[tuple[bool, float]] = deque(maxlen=window)
        self._warned = False

    def update(self, judgments: Sequence[Judgment]) -> dict[str, float]:
        """Add gated judgments, and return rate, mass and their p-values (1 while there are too few)."""
        self._latest.extend((judgment.mode == "slow", judgment.mass) for judgment in judgments)
        slow, mass = np.array([one for one, _ in self._latest]), np.array([one for _, one in self._latest])
        report = {"escalation_rate": float(slow.mean()), "mass_mean": float(mass.mean()), "rate_p": 1.0, "mass_p": 1.0}
        if len(slow) < self.minimum:
            return report
        report["rate_p"] = self._rate_p(slow)
        report["mass_p"] = self._mass_p(mass)
        if min(report["rate_p"], report["mass_p"]) < self.p_value and not self._warned:
            self._warned = True
            warnings.warn(self._message(report, len(slow)), stacklevel=3)
        return report

    def _rate_p(self, slow: np.ndarray) -> float:
        # Half a decision is added to each side, because a calibrated rate of 0 or 1 is an estimate too.
        count = self.calibration["num_pairs"]
        rate = (self.calibration["escalation_rate"] * count + 0.5) / (count + 1)
        from scipy.stats import binomtest  # importing it takes half a second

        return float(binomtest(int(slow.sum()), len(slow), rate).pvalue)

    def _mass_p(self, mass: np.ndarray) -> float:
        spread = max(self.calibration["mass_std"], 1e-3)
        error = spread * np.sqrt(1 / len(mass) + 1 / self.calibration["num_pairs"])
        from scipy.stats import norm  # importing it takes half a second

        return float(2 * norm.sf(abs(mass.mean() - self.calibration["mass_mean"]) / error))

    def _message(self, report: dict[str, float], count: int) -> str:
        return (
            f"Over the last {count} judgments {report['escalation_rate']:.1%} were escalated and the verdict mass was "
            f"{report['mass_mean']:.3f}, but the judge was calibrated at {self.calibration['escalation_rate']:.1%} and "
            f"{self.calibration['mass_mean']:.3f}: its inputs have changed, so thresholds and bounds may not hold. "
            "Calibrate on pairs like the current inputs."
        )
