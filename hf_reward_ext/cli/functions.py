"""Functions of the user by name, as MODULE:FUNCTION."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from hf_reward_ext.base.options import binding_error, is_async
from hf_reward_ext.base.saving.fingerprint import fingerprint_file


def load_function(name: str, option: str, example: tuple | None = None) -> Callable:
    """
    Import a function by `MODULE:FUNCTION`; modules of the working directory are found after installed ones.

    Args:
        name (`str`): `MODULE:FUNCTION`.
        option (`str`): Name of the option, for messages.
        example (`tuple`, *optional*): Arguments that it must accept.

    Raises:
        ValueError: If the module or function does not exist.
        TypeError: If it is not callable with such arguments.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # at the end: a `yaml.py` here must not hide the installed one
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"`{option}` must be importable, got {name!r}: {error}. Pass MODULE:FUNCTION.") from error
    if not callable(function):
        raise TypeError(f"`{option}` must be a function, got {name!r}, a `{type(function).__name__}`.")
    if example is not None:
        if is_async(function):
            raise TypeError(
                f"`{option}` must return its result when it is called, got the asynchronous function {name!r}. Pass a "
                "plain one."
            )
        if error := binding_error(function, example):
            raise TypeError(
                f"`{option}` must take {len(example)} arguments, but {name!r} does not ({error}). Pass a function that "
                "does."
            ) from error
    return function


def fingerprint_function(name: str) -> dict[str, Any]:
    """Return the name of a function, and the hash of its source file."""
    function = inspect.unwrap(load_function(name, "MODULE:FUNCTION"))
    try:
        source = inspect.getsourcefile(function)
    except TypeError:  # builtin, or an object that is called
        source = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    return {"name": name, "file": None if source is None else fingerprint_file(source)[:16]}
