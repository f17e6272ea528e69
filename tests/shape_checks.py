"""Shapes in signatures, checked with jaxtyping and beartype while the tests run."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype


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
    return beartype(function) if function.__annotations__ else function


def _checked_if_shaped(jaxtyped: Callable, *, typechecker: Callable) -> Callable:
    decorate = jaxtyped(typechecker=typechecker)
    return lambda target: decorate(target) if any(map(_has_shape, _annotations(target))) else target


def _annotations(target: Any) -> list:
    """Annotations of a function, or of the fields of a class."""
    return list(inspect.get_annotations(inspect.unwrap(getattr(target, "__func__", target))).values())


def _has_shape(hint: Any) -> bool:
    """Whether an annotation is a jaxtyping array or holds one."""
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(map(_has_shape, get_args(hint)))
