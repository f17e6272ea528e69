"""What a command line asks of `hf-reward-ext train`."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Training(NamedTuple):
    """
    Options of a training.

    Args:
        method (`str`): One of `METHODS`.
        script, training, model, mixture: The dataclasses, filled.
        launch_arguments (`list[str]`): What none of them has, which is for accelerate.
        launch_arguments_on_line (`list[str]`): Those of the command line, without those of the file.
        arguments (`list[str]`): All that followed the method.
        is_launched (`bool`): Whether accelerate or torchrun has started this process.
        usage_error (`callable`): Ends the process with a message.
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
