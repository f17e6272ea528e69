"""Values allowed in the rows of a file: those that both JSON and Arrow can store."""

import hashlib
import json
import math
from typing import Any

_LARGEST = 2**63


def check_json(value: Any, name: str) -> None:
    """
    Reject a value that a file would not return unchanged.

    Args:
        value: `None`, a `bool`, `int`, finite `float` or `str`, or lists and dictionaries of such.
        name (`str`): Name of the value, for messages.

    Raises:
        TypeError: If it has another type; the message names the position.
        ValueError: If a number is not finite or needs more than 64 bits, a text is not valid Unicode, or a key has a
            null character.

    Example:
    ```python
    >>> check_json({"scores": [1.0, None]}, "row 0")
    ```
    """
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if not -_LARGEST <= value < _LARGEST:
            raise ValueError(f"{name} must fit 64 bits, got {value}. Write it as text.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}. Use `None` where there is no value.")
    elif isinstance(value, str):
        _check_text(value, name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_json(item, f"{name}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{name} must have text keys, got {key!r}. Turn it into `str`.")
            _check_text(key, f"a key of {name}")
            if "\0" in key:  # Arrow ends a name there
                raise ValueError(f"{name} must have keys without a null character, got {key!r}. Remove it.")
            check_json(item, f"{name}[{key!r}]")
    else:
        kind = type(value)
        raise TypeError(
            f"{name} must be None, a bool, int, float, str, list or dict, got a `{kind.__module__}.{kind.__name__}`. "
            "Convert it (`.item()`, `.tolist()`, `str`)."
        )


def digest(value: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value of [`check_json`]."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _check_text(text: str, name: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must be text that UTF-8 can hold, got {error.reason} ({text[error.start]!r}). Correct it."
        ) from error
