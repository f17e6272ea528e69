"""Fault of a reward model."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """
    Fault of a reward model, and its remedy.

    Args:
        check (`str`): Name of the check that found it, such as `"batch_size"`.
        found (`str`): Description of the fault, with numbers.
        remedy (`str`): Action that fixes the fault.

    Example:
    ```python
    >>> print(Finding("sigmoid", "`problem_type` is None.", "Set it to 'regression'."))
    [sigmoid] `problem_type` is None.
        -> Set it to 'regression'.
    ```
    """

    check: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"[{self.check}] {self.found}\n    -> {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
