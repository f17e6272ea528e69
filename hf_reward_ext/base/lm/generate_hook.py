"""
The only hook into `generate`, for processors that need all its arguments and not only ids and scores.

`generate` gives a logits processor neither the attention mask nor the stopping criteria, and with
`cache_implementation="paged"` it ignores processors silently. So `GenerationMixin.generate` is wrapped once, when the
first object that needs it is made, and [`remove_generate_hook`] restores it. Importing this library changes nothing.
"""

# Names that the stubs of transformers do not know.
# pyright: reportAttributeAccessIssue=false

import functools
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor

_lock = threading.Lock()


@dataclass(frozen=True)
class GenerateCall:
    """
    A call of `generate`.

    Args:
        model (`PreTrainedModel`): The model that generates.
        arguments (`dict`): All arguments by name, positional ones included.
    """

    model: Any
    arguments: dict[str, Any]

    @property
    def input_ids(self) -> Tensor | None:
        """The prompts; `None` if the call has only `inputs_embeds`."""
        inputs = self.arguments.get("inputs")
        return self.arguments.get("input_ids") if inputs is None else inputs

    @functools.cached_property
    def config(self) -> GenerationConfig:
        """Effective settings: keywords, then `generation_config`, then the settings of the model."""
        return effective_generation_config(self.model, self.arguments)


def effective_generation_config(model, arguments: dict[str, Any]) -> GenerationConfig:
    """
    Return the generation settings of a call, as `generate` merges them.

    Args:
        model (`PreTrainedModel`): The model that generates.
        arguments (`dict`): Arguments of `generate` by name. Keywords take precedence over the fields of
            `generation_config`, and its `None` fields are filled from the model's settings.
    """
    given = arguments.get("generation_config")
    fields = vars(GenerationConfig())
    settings = {name: value for name, value in arguments.items() if name in fields}
    if given is not None and settings:
        # `generate` itself warns about this mixture; a second warning here would be noise.
        given = GenerationConfig.from_dict({**given.to_dict(), **settings})
        settings = {}
    return model._prepare_generation_config(given, **settings)[0]


class WatchesGenerate(LogitsProcessor, ABC):
    """A logits processor that sees the whole call of `generate`; constructing it installs the hook."""

    def __init__(self):
        install_generate_hook()

    @abstractmethod
    def around(self, call: GenerateCall) -> AbstractContextManager[dict[str, Any]]:
        """
        Return the context of one `generate` call, which raises to reject it and yields the arguments to run with.

        It is also entered for the nested call of an assistant model that gets the same processor.
        """


def checks_generate_call(check: Callable[[GenerateCall], None]) -> Callable:
    """Decorate a `custom_generate` function with a check of the arguments that `generate` would not pass to it."""

    def decorate(function):
        function.check_generate_call = check
        return function

    return decorate


def custom_check(call: GenerateCall) -> Callable[[GenerateCall], None] | None:
    """Return the check of the `custom_generate` function of a call, if it has one."""
    custom = call.arguments.get("custom_generate")
    return getattr(custom.func if isinstance(custom, functools.partial) else custom, "check_generate_call", None)


def install_generate_hook() -> None:
    """Wrap `GenerationMixin.generate`, once per process."""
    with _lock:
        if _is_hooked(GenerationMixin.generate):
            return
        plain = GenerationMixin.generate

        @functools.wraps(plain)
        def generate(self, *args, **kwargs):
            return run_watched(plain, self, args, kwargs)

        generate._hooked = plain
        GenerationMixin.generate = generate


def remove_generate_hook() -> None:
    """
    Restore the `generate` of transformers.

    Processors made before keep working, without the attention mask of the call: leading padding tokens are then
    treated as padding.

    Raises:
        RuntimeError: If other code has wrapped `generate` since.
    """
    with _lock:
        if _is_hooked(GenerationMixin.generate):
            GenerationMixin.generate = GenerationMixin.generate._hooked
        elif _is_hooked(inspect.unwrap(GenerationMixin.generate, stop=_is_hooked)):
            raise RuntimeError(
                "The hook must be the outermost wrapper of `GenerationMixin.generate`, but another library has wrapped "
                "it since. Undo that first."
            )


def named_call(model, args: tuple, kwargs: dict[str, Any]) -> GenerateCall:
    """Return the call `generate(*args, **kwargs)` as a [`GenerateCall`], for a model that checks its calls itself."""
    return GenerateCall(model, _by_name(inspect.unwrap(GenerationMixin.generate), args, kwargs))


def run_watched(plain: Callable, model, args: tuple, kwargs: dict[str, Any]):
    """Run `plain(model, *args, **kwargs)` inside the contexts of the processors of the call."""
    call = GenerateCall(model, _by_name(plain, args, kwargs))
    check = custom_check(call)
    watchers = [one for one in call.arguments.get("logits_processor") or () if isinstance(one, WatchesGenerate)]
    if check is not None or watchers:
        _refuse_paged(call, "custom_generate" if check is not None else type(watchers[0]).__name__)
    if check is not None:
        check(call)
    if not watchers:
        return plain(model, *args, **kwargs)
    with ExitStack() as stack:
        for watcher in watchers:
            call = replace(call, arguments=stack.enter_context(watcher.around(call)))
        return plain(model, **call.arguments)


def _is_hooked(function) -> bool:
    return "_hooked" in vars(function)


def _by_name(plain: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    names = list(_generate_parameters(plain))[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


@functools.lru_cache(maxsize=8)
def _generate_parameters(plain: Callable):
    return inspect.signature(plain).parameters


def _refuse_paged(call: GenerateCall, name: str) -> None:
    if call.config.cache_implementation == "paged":
        raise ValueError(
            f"`cache_implementation` must not be 'paged' with `{name}`: continuous batching ignores it silently. Leave "
            "`cache_implementation` out."
        )
