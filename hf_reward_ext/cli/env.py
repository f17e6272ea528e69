"""Command `hf-reward-ext env`: versions and hardware, for reports of faults."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from hf_reward_ext.cli.parser import OptionParser, command_parser

SHORT = "show versions and hardware, for reports of faults"
DESCRIPTION = "Shows the versions of this library and of what it runs on, and the accelerator."
EXAMPLES = ("", "--json")
PACKAGES = (
    "hf_reward_ext",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "safetensors",
    "numpy",
)


@dataclass
class EnvOptions:
    """Options of `env`: there are none of its own."""

    title: ClassVar[str] = "env"

    def check(self) -> None:
        """Accept all options."""


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("env", EnvOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: EnvOptions) -> dict:
    """Print a table that fits into a report."""
    found = {name: _version(name) for name in PACKAGES}
    found |= {"python": platform.python_version(), "platform": platform.platform(), "accelerator": _accelerator()}
    for name, value in found.items():
        print(f"- {name}: {value}")
    return {"command": "env", **found}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _accelerator() -> str:
    import torch

    if not torch.accelerator.is_available():
        return "none"
    device = torch.accelerator.current_accelerator()
    return f"{torch.accelerator.device_count()} x {device}"
