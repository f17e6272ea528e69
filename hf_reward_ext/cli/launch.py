"""Training in several processes with `accelerate launch`."""

import io
import os
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import resources
from pathlib import Path

import torch
from accelerate.commands.config.config_args import default_config_file
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from hf_reward_ext.cli.chosen_training import Training

MODULE = "hf_reward_ext.cli.main"


def wants_launch(launch_arguments: Sequence[str]) -> bool:
    """
    Return whether `accelerate launch` would start anything other than one plain process.

    Args:
        launch_arguments (`list[str]`): Given arguments for accelerate.
    """
    if launch_arguments or os.path.isfile(default_config_file):
        return True
    return torch.accelerator.is_available() and torch.accelerator.device_count() > 1


def launch(options: Training) -> None:
    """
    Run `accelerate launch ... -m hf_reward_ext.cli.main train METHOD ...`, as TRL does for its scripts.

    Args:
        options ([`Training`]): Options; unknown ones are passed to accelerate.

    Raises:
        SystemExit: With code 2 if accelerate does not know an argument either.
        RuntimeError: If a process failed.
    """
    launch_arguments = resolve_config(options.launch_arguments)
    own_arguments = _without(options.arguments, options.launch_arguments_on_line)
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            args = launch_command_parser().parse_args(
                [*launch_arguments, "-m", MODULE, "train", options.method, *own_arguments]
            )
    except SystemExit:
        message = errors.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        options.usage_error(f"{message} (of accelerate launch)")
    try:
        launch_command(args)
    except (subprocess.CalledProcessError, ChildFailedError) as error:
        raise RuntimeError("A training process failed; see its output above.") from error


def resolve_config(arguments: Sequence[str]) -> list[str]:
    """
    Replace `--accelerate_config NAME_OR_FILE` by accelerate's `--config_file`; names are those of TRL's configs.

    Raises:
        ValueError: If there is neither a file nor a config of that name.
    """
    arguments = list(arguments)
    if "--accelerate_config" not in arguments:
        return arguments
    index = arguments.index("--accelerate_config")
    name = "".join(arguments[index + 1 : index + 2])
    shipped = Path(str(resources.files("trl"))) / "accelerate_configs"
    path = Path(name) if Path(name).is_file() else shipped / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in shipped.glob("*.yaml"))
        raise ValueError(f"`--accelerate_config` must be a file or one of TRL's {names}, got {name!r}. Pass one.")
    return ["--config_file", str(path), *arguments[:index], *arguments[index + 2 :]]


def _without(arguments: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return the arguments without those taken, which occur among them in this order."""
    left, rest = [], list(taken)
    for argument in arguments:
        if rest and argument == rest[0]:
            rest.pop(0)
        else:
            left.append(argument)
    return left
