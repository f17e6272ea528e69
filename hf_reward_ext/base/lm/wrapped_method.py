"""Methods of one model that are wrapped while somebody needs it, in any number of threads."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_lock = threading.Lock()
_wrapped: WeakKeyDictionary[nn.Module, dict[str, "_Wrapped"]] = WeakKeyDictionary()


@dataclass
class _Wrapped:
    """How often a method was wrapped, the wrapper, and the attribute of the instance that was there before."""

    count: int
    wrapper: Callable
    before: Any


def wrap_method(model: nn.Module, name: str, around: Callable) -> None:
    """
    Runs `around(model, plain, *args, **kwargs)` where the model's method is called, until [`unwrap_method`].

    Wrapping again counts, with the same `around`: the method is restored with the last [`unwrap_method`]. Which calls
    are changed is for `around` to decide, by a context variable: other threads call the method too.

    Args:
        model (`nn.Module`): The one instance whose method is wrapped.
        name (`str`): Name of the method.
        around (`callable`): Gets the model, the plain bound method, and the arguments of the call.
    """
    with _lock:
        methods = _wrapped.setdefault(model, {})
        if name in methods:
            methods[name].count += 1
            return
        plain = getattr(model, name)

        @functools.wraps(plain)  # `generate` looks at signatures
        def wrapper(*args, **kwargs):
            return around(model, plain, *args, **kwargs)

        methods[name] = _Wrapped(1, wrapper, vars(model).get(name))
        vars(model)[name] = wrapper


def unwrap_method(model: nn.Module, name: str) -> None:
    """Undoes one [`wrap_method`]."""
    with _lock:
        wrapped = _wrapped[model][name]
        wrapped.count -= 1
        if wrapped.count > 0:
            return
        del _wrapped[model][name]
        if vars(model).get(name) is not wrapped.wrapper:
            return  # replaced by somebody else since
        if wrapped.before is None:
            del vars(model)[name]
        else:
            vars(model)[name] = wrapped.before
