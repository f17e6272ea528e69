"""Checks of options: numbers in a range, counts, choices. A wrong one is refused with its name, value and remedy."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def check_number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """
    Refuses everything but a finite number in a range.

    Args:
        name (`str`): Name of the option.
        value: Its value.
        above, least, below, most (`float`, *optional*): Open and closed bounds.

    Raises:
        TypeError: If the value is not a real number.
        ValueError: If it is NaN, infinite, or out of the range.

    Example:
    ```python
    >>> check_number("budget", 2, least=0, most=1)
    ValueError: `budget` must be a number from 0 to 1, got 2.
    ```
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be a number{_range(above, least, below, most)}, got {value!r}.")
    if not math.isfinite(value) or not (above < value < below and least <= value <= most):
        raise ValueError(f"`{name}` must be a number{_range(above, least, below, most)}, got {value}.")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """
    Refuses everything but an integer of at least `least`.

    Raises:
        TypeError: If the value is not an integer.
        ValueError: If it is smaller.

    Example:
    ```python
    >>> check_count("batch_size", 0)
    ValueError: `batch_size` must be an integer of at least 1, got 0.
    ```
    """
    message = f"`{name}` must be an integer of at least {least}, got {value!r}."
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(message)
    if value < least:
        raise ValueError(message)


def check_choice(name: str, value: Any, choices: Collection) -> None:
    """
    Refuses everything but one of some values.

    Raises:
        ValueError: If the value is none of them.

    Example:
    ```python
    >>> check_choice("mode", "Fast", ("gated", "fast", "slow"))
    ValueError: `mode` must be one of 'gated', 'fast', 'slow', got 'Fast'.
    ```
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def _range(above: float, least: float, below: float, most: float) -> str:
    low = f"of at least {least:g}" if least > above else f"above {above:g}" if above > -math.inf else ""
    high = f"at most {most:g}" if most < below else f"below {below:g}" if below < math.inf else ""
    if least > above and most < below:
        return f" from {least:g} to {most:g}"
    return f" {low}{' and ' if low and high else ''}{high}" if low or high else ""
