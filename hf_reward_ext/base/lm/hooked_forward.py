"""Hooks on the forward of a model, in any number of threads."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

_lock = threading.Lock()
_hooks: WeakKeyDictionary[nn.Module, tuple[Counter[Callable], Any]] = WeakKeyDictionary()


def watch_forward(model: nn.Module, after: Callable[[nn.Module, Any], None]) -> None:
    """
    Call `after(model, output)` with the output of every forward, until [`unwatch_forward`].

    Calls with the same function are counted. `after` should use a context variable to decide which forwards it uses.

    Args:
        model (`nn.Module`): Model whose forward is watched.
        after (`callable`): Function of the model and the output.
    """

    @torch.compiler.disable  # the recorded shapes change with every step, which would recompile
    def run(module: nn.Module, _inputs, output) -> None:
        for watcher in tuple(_hooks[module][0]) if module in _hooks else ():
            watcher(module, output)

    with _lock:
        if model not in _hooks:
            _hooks[model] = Counter(), model.register_forward_hook(cast(Any, run))
        _hooks[model][0][after] += 1


def unwatch_forward(model: nn.Module, after: Callable[[nn.Module, Any], None]) -> None:
    """Undo one [`watch_forward`] with the same arguments."""
    with _lock:
        watchers, handle = _hooks[model]
        watchers[after] -= 1
        if watchers[after] == 0:
            del watchers[after]
        if not watchers:
            del _hooks[model]
            handle.remove()
