"""Temporary wrappers around a method of one model, safe with any number of threads."""

import functools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_lock = threading.Lock()
_wrapped: WeakKeyDictionary[nn.Module, dict[str, "_Wrapped"]] = WeakKeyDictionary()


@dataclass
class _Wrapped:
    """A wrapped method: number of uses of each `around`, the wrapper, and the previous attribute of the instance."""

    arounds: Counter[Callable]
    wrapper: Callable
    before: Any


def wrap_method(model: nn.Module, name: str, around: Callable) -> None:
    """
    Replace calls of a model's method by `around(model, plain, *args, **kwargs)`, until [`unwrap_method`].

    Wrapping may be repeated: the last [`unwrap_method`] restores the method. Another `around` runs outside of those
    before, which are its `plain`. Other threads call the method too, so `around` should use a context variable to
    decide which calls it changes.

    Args:
        model (`nn.Module`): Instance whose method is wrapped.
        name (`str`): Name of the method.
        around (`callable`): Function of the model, the original bound method, and the arguments of the call.
    """
    with _lock:
        methods = _wrapped.setdefault(model, {})
        if name in methods:
            methods[name].arounds[around] += 1
            return
        plain, arounds = getattr(model, name), Counter([around])

        @functools.wraps(plain)  # `generate` inspects signatures
        def wrapper(*args, **kwargs):
            call = plain
            for outer in tuple(arounds):
                call = functools.partial(outer, model, call)
            return call(*args, **kwargs)

        methods[name] = _Wrapped(arounds, wrapper, vars(model).get(name))
        vars(model)[name] = wrapper


def unwrap_method(model: nn.Module, name: str, around: Callable) -> None:
    """Undo one [`wrap_method`] with the same arguments."""
    with _lock:
        wrapped = _wrapped[model][name]
        wrapped.arounds[around] -= 1
        if wrapped.arounds[around] == 0:
            del wrapped.arounds[around]
        if wrapped.arounds:
            return
        del _wrapped[model][name]
        if vars(model).get(name) is not wrapped.wrapper:
            return  # other code has replaced it since
        if wrapped.before is None:
            del vars(model)[name]
        else:
            vars(model)[name] = wrapped.before
