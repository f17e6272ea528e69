"""Report of the checks of a reward model."""

from dataclasses import dataclass
from typing import Any

from hf_reward_ext.checks.finding import Finding


@dataclass(frozen=True, repr=False)
class RewardModelReport:
    """
    Report of [`check_reward_model`], which prints as text.

    Args:
        model (`str`): Class name of the model.
        rewards (`list[float]`): Raw reward of each text, scored alone.
        findings (`list[Finding]`): Faults, in the order of the checks.
        passed (`list[str]`): Checks without a finding.
        skipped (`dict[str, str]`): Checks that did not apply, with the reason.

    Example:
    ```python
    >>> report = check_reward_model(model, tokenizer, rows)
    >>> if not report.is_sound:
    ...     print(report)
    ```
    """

    model: str
    rewards: list[float]
    findings: list[Finding]
    passed: list[str]
    skipped: dict[str, str]

    @property
    def is_sound(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def __str__(self) -> str:
        count = len(self.findings)
        lines = [
            f"{self.model}, {len(self.rewards)} texts, rewards {min(self.rewards):.4g} to {max(self.rewards):.4g}: "
            f"{'no' if count == 0 else count} finding{'' if count == 1 else 's'}"
        ]
        lines += map(str, self.findings)
        if self.passed:
            lines.append(f"passed: {', '.join(self.passed)}")
        lines += [f"skipped: {check} ({reason})" for check, reason in self.skipped.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "model": self.model,
            "is_sound": self.is_sound,
            "findings": [finding.to_dict() for finding in self.findings],
            "passed": list(self.passed),
            "skipped": dict(self.skipped),
            "rewards": list(self.rewards),
        }
