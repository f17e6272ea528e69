"""Shapes in signatures, checked with jaxtyping and beartype while the tests run."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_args

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

_INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)  # as for type checkers


def install() -> None:
    """Checks the package from now on; call it before the first import of it."""
    # The hook wraps every function. Only those with a shape are worth it: the others would double the time of imports.
    jaxtyping.jaxtyped = functools.partial(_checked_if_shaped, jaxtyping.jaxtyped)
    jaxtyping.install_import_hook("hf_reward_ext", "shape_checks.check_shapes")


def check_shapes(function: Callable) -> Callable:
    """
    Checks the annotated shapes of a function's arguments and result.

    Other annotations are left out: what users pass wrongly is refused by the library itself, in its own words.
    """
    annotations = inspect.get_annotations(function)
    function.__annotations__ = {name: hint for name, hint in annotations.items() if _has_shape(hint)}
    return beartype(function, conf=_INT_IS_FLOAT) if function.__annotations__ else function


def _checked_if_shaped(jaxtyped: Callable, *, typechecker: Callable) -> Callable:
    def decorate(target: Any) -> Any:
        if not any(map(_has_shape, inspect.get_annotations(target).values())):
            return target
        if is_dataclass(target):
            target.__init__ = decorate(target.__init__)
        return (
            target if inspect.isclass(target) else _unless_compiling(target, jaxtyped(target, typechecker=typechecker))
        )

    return decorate


def _unless_compiling(function: Callable, checked: Callable) -> Callable:
    @functools.wraps(function)
    def called(*args, **kwargs):
        if torch.compiler.is_compiling():  # the tensors of a trace have no shapes that could be looked at
            return function(*args, **kwargs)
        try:
            return checked(*args, **kwargs)
        except jaxtyping.TypeCheckError:
            with contextlib.suppress(RuntimeError, IndexError):
                function(*args, **kwargs)  # what the library refuses, it refuses in its own words
            raise

    return called


def _has_shape(hint: Any) -> bool:
    """Whether an annotation is a jaxtyping array or holds one."""
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(map(_has_shape, get_args(hint)))
