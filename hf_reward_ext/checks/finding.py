"""One fault of a reward model."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """
    What is wrong with a reward model, and what mends it.

    Args:
        check (`str`): Name of the check that found it, such as `"batch_size"`.
        found (`str`): What was seen, with numbers.
        remedy (`str`): The one thing to do.

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
        """The fields, fit for JSON."""
        return asdict(self)
