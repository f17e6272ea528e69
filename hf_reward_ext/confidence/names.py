"""Training-free rewards by name."""

from pathlib import Path
from typing import Any

from hf_reward_ext.confidence.measures import (
    GroupConfidence,
    Length,
    MeanLogProbability,
    Measure,
    NegativeEntropy,
    SelfCertainty,
)

MEASURES: dict[str, type[Measure]] = {
    "confidence": GroupConfidence,
    "mean_log_probability": MeanLogProbability,
    "self_certainty": SelfCertainty,
    "negative_entropy": NegativeEntropy,
    "length": Length,
}


def as_measure(reward: Any) -> Measure | None:
    """
    Return a training-free reward by object or name; `None` for anything else.

    Args:
        reward ([`Measure`] or `str`): Measure, or one of `"confidence"`, `"mean_log_probability"`, `"self_certainty"`,
            `"negative_entropy"`, `"length"`.

    Raises:
        ValueError: If there is a folder of that name.

    Example:
    ```python
    >>> as_measure("confidence")
    GroupConfidence(window=2048, top_k=None)
    ```
    """
    if isinstance(reward, Measure):
        return reward
    if not isinstance(reward, str) or reward not in MEASURES:
        return None
    if Path(reward).is_dir():
        raise ValueError(
            f"{reward!r} must name one reward, but it is a training-free reward and a folder here. Write "
            f"'./{reward}' for the folder, or pass `{MEASURES[reward].__name__}()`."
        )
    return MEASURES[reward]()


def require_measure(measure: Any) -> Measure:
    """Return a training-free reward by object or name, and refuse anything else."""
    found = as_measure(measure)
    if found is None and isinstance(measure, str):
        raise ValueError(f"`measure` must be one of {', '.join(map(repr, MEASURES))}, got {measure!r}.")
    if found is None:
        raise TypeError(f"`measure` must be a `Measure` or the name of one, got a `{type(measure).__name__}`.")
    return found
