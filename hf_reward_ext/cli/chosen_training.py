"""Options of `hf-reward-ext train`."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Training(NamedTuple):
    """
    Options of a training.

    Args:
        method (`str`): Method, one of `METHODS`.
        script, training, model, mixture: Dataclasses with the options.
        launch_arguments (`list[str]`): Unknown arguments, which are passed to accelerate.
        launch_arguments_on_line (`list[str]`): Unknown arguments on the command line, without those in the file.
        arguments (`list[str]`): All arguments after the method.
        is_launched (`bool`): Whether accelerate or torchrun started this process.
        usage_error (`callable`): Function that ends the process with a message.
    """

    method: str
    script: Any
    training: Any
    model: Any
    mixture: Any
    launch_arguments: list[str]
    launch_arguments_on_line: list[str]
    arguments: list[str]
    is_launched: bool
    usage_error: Callable
