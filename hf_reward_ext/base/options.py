"""Checks of options: numbers in a range, counts and choices. Errors name the option, its value and the remedy."""

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


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
    Raise an error unless the value is a finite number in a range.

    Args:
        name (`str`): Name of the option.
        value: Value of the option.
        above, least, below, most (`float`, *optional*): Bounds, exclusive (`above`, `below`) and inclusive (`least`,
            `most`).

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
    if not _is_finite(value) or not (above < value < below and least <= value <= most):  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"`{name}` must be a number{_range(above, least, below, most)}, got {value}.")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """
    Raise an error unless the value is an integer of at least `least`.

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
    Raise an error unless the value is one of `choices`.

    Raises:
        ValueError: If the value is not one of them.

    Example:
    ```python
    >>> check_choice("mode", "Fast", ("gated", "fast", "slow"))
    ValueError: `mode` must be one of 'gated', 'fast', 'slow', got 'Fast'.
    ```
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_callable(name: str, value: Any, arguments: Sequence[str]) -> None:
    """
    Raise an error unless the value is a function that can be called with some arguments and returns its result.

    Args:
        name (`str`): Name of the option.
        value: Value of the option.
        arguments (`list[str]`): Names of the positional arguments, for messages.

    Raises:
        TypeError: If the value is not callable, takes other arguments, or is asynchronous.

    Example:
    ```python
    >>> check_callable("extract_answer", lambda: 1, ["completion"])
    TypeError: `extract_answer` must be callable with 1 argument (completion), got one that is not: too many positional
    arguments. Pass a function that takes it.
    ```
    """
    if not callable(value):
        raise TypeError(
            f"`{name}` must be callable, got a `{type(value).__name__}`. Pass a function of {', '.join(arguments)}."
        )
    if is_async(value):
        raise TypeError(
            f"`{name}` must return its result when it is called, got an asynchronous function. Pass a plain one."
        )
    if error := binding_error(value, arguments):
        count = f"{len(arguments)} argument{'s' if len(arguments) > 1 else ''}"
        raise TypeError(
            f"`{name}` must be callable with {count} ({', '.join(arguments)}), got one that is not: {error}. Pass a "
            f"function that takes {'them' if len(arguments) > 1 else 'it'}."
        ) from error


@dataclass(frozen=True)
class Number:
    """
    Range of a numeric field, declared in its annotation; see [`check_number`].

    Example:
    ```python
    >>> temperature: Annotated[float | None, Number(least=0)] = None
    ```
    """

    above: float = -math.inf
    least: float = -math.inf
    below: float = math.inf
    most: float = math.inf

    def check(self, name: str, value: Any) -> None:
        """Raise `TypeError` or `ValueError` if the value is not in the range."""
        check_number(name, value, above=self.above, least=self.least, below=self.below, most=self.most)


@dataclass(frozen=True)
class Count:
    """Range of an integer field, declared in its annotation."""

    least: int = 1
    most: int | None = None

    def check(self, name: str, value: Any) -> None:
        """Raise `TypeError` or `ValueError` if the value is not in the range."""
        check_count(name, value, self.least)
        if self.most is not None and value > self.most:
            raise ValueError(f"`{name}` must be an integer of at most {self.most}, got {value}.")


SEED = Count(least=0, most=2**32 - 1)


def check_declared(options: Any, spell: Callable[[str], str] = str) -> None:
    """
    Check the fields of a dataclass against their annotations: `Number`, `Count`, `Literal`.

    `None` is accepted. Each element of a list is checked.

    Args:
        options: The dataclass instance.
        spell (`callable`, *optional*): Function from the name of a field to its name in messages.

    Raises:
        TypeError, ValueError: For the first field that is out of its range.

    Example:
    ```python
    >>> check_declared(config)
    ValueError: `beta` must be a number above 0, got nan.
    ```
    """
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        value = getattr(options, name, None)
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is not None:
                _check_hint(spell(name), item, hint)


def _check_hint(name: str, value: Any, hint: Any) -> None:
    if get_origin(hint) is Annotated:
        for mark in hint.__metadata__:
            if isinstance(mark, Number | Count):
                mark.check(name, value)
    choices = [choice for part in [hint, *get_args(hint)] if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        check_choice(name, value, choices)


def binding_error(function: Callable, arguments: Sequence) -> TypeError | None:
    """Return why a function cannot be called with positional arguments; `None` if it can, or has no signature."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin
        return None
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return error
    return None


def is_async(function: Any) -> bool:
    """Return whether a call of a function returns what has to be awaited."""
    checks = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(check(one) for one in (function, type(function).__call__) for check in checks)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer above all floats
        return False


def _range(above: float, least: float, below: float, most: float) -> str:
    low = f"of at least {least:g}" if least > above else f"above {above:g}" if above > -math.inf else ""
    high = f"at most {most:g}" if most < below else f"below {below:g}" if below < math.inf else ""
    if least > above and most < below:
        return f" from {least:g} to {most:g}"
    return f" {low}{' and ' if low and high else ''}{high}" if low or high else ""
