"""Whether a judge in use still behaves as it did when it was calibrated."""

import warnings
from collections import deque
from collections.abc import Sequence

import numpy as np

from hf_reward_ext.fast_slow.judge.judgment import Judgment


class DriftMonitor:
    """
    Watches the escalation rate and the verdict mass of the latest judgments.

    Warns once when either leaves what the calibration saw: the rate by a binomial test, the mass by a z-test of its
    mean. Both name inputs that differ from the held-out set; thresholds and bounds do not hold on them.

    Args:
        calibration (`dict`): As stored in the checkpoint: `escalation_rate`, `mass_mean`, `mass_std`.
        window (`int`, *optional*): Latest judgments looked at.
        minimum (`int`, *optional*): Fewer than these are not tested.
        p_value (`float`, *optional*): Of a false alarm, at each test.

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
        """Adds gated judgments; returns rate, mass and their p-values (1 while there are too few)."""
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
        # Half a decision either way: a calibrated rate of 0 or 1 is an estimate too.
        count = self.calibration["num_pairs"]
        rate = (self.calibration["escalation_rate"] * count + 0.5) / (count + 1)
        from scipy.stats import binomtest  # half a second to import

        return float(binomtest(int(slow.sum()), len(slow), rate).pvalue)

    def _mass_p(self, mass: np.ndarray) -> float:
        spread = max(self.calibration["mass_std"], 1e-3)
        error = spread * np.sqrt(1 / len(mass) + 1 / self.calibration["num_pairs"])
        from scipy.stats import norm  # half a second to import

        return float(2 * norm.sf(abs(mass.mean() - self.calibration["mass_mean"]) / error))

    def _message(self, report: dict[str, float], count: int) -> str:
        return (
            f"Over the last {count} judgments {report['escalation_rate']:.1%} were escalated and the verdict mass was "
            f"{report['mass_mean']:.3f}, but the judge was calibrated at {self.calibration['escalation_rate']:.1%} and "
            f"{self.calibration['mass_mean']:.3f}: its inputs have changed, so thresholds and bounds may not hold. "
            "Calibrate on pairs like those it judges now."
        )
