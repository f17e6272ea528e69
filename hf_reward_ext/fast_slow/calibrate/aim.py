"""Aim of the thresholds of a gate: a budget or an error rate."""

from dataclasses import dataclass

from hf_reward_ext.base.options import check_number
from hf_reward_ext.fast_slow.calibrate.calibration import Outcomes
from hf_reward_ext.fast_slow.calibrate.thresholds import check_enough, thresholds_for_budget, thresholds_for_risk
from hf_reward_ext.fast_slow.judge.gate import Gate


@dataclass(frozen=True)
class Aim:
    """
    Aim of a calibration: a budget of written judgments, or a bound on the error of fast verdicts.

    Args:
        budget (`float`, *optional*): Maximum share of escalated decisions, in [0, 1].
        risk (`float`, *optional*): Maximum error rate of fast verdicts, in (0, 1).
        confidence (`float`, *optional*, defaults to 0.95): Probability that the bound of `risk` holds.

    Raises:
        TypeError: If a value is not a number.
        ValueError: If a value is out of its range, or not exactly one of `budget` and `risk` is given.

    Example:
    ```python
    >>> Aim(budget=0.4).gate(Gate(), outcomes)
    ```
    """

    budget: float | None = None
    risk: float | None = None
    confidence: float = 0.95

    def __post_init__(self):
        if (self.budget is None) == (self.risk is None):
            raise ValueError(
                f"Give exactly one of `budget` and `risk`, got {self.budget} and {self.risk}: thresholds have one aim."
            )
        if self.budget is not None:
            check_number("budget", self.budget, least=0, most=1)
        else:
            check_number("risk", self.risk, above=0, below=1)
        check_number("confidence", self.confidence, above=0, below=1)

    def check_decisions(self, count: int) -> None:
        """Raise `ValueError` if there are too few decisions to certify the risk, even without an error."""
        if self.risk is not None:
            check_enough(count, self.risk, self.confidence)

    def gate(self, gate: Gate, outcomes: Outcomes) -> Gate:
        """Return the gate with thresholds chosen for this aim on held-out decisions."""
        if self.risk is None:
            return thresholds_for_budget(gate, outcomes, float(self.budget or 0))
        return thresholds_for_risk(gate, outcomes, self.risk, self.confidence)
