"""Processes that `accelerate launch` or `torchrun` started."""

import os
import sys

# What torch and accelerate take as a sign that there are other processes to wait for.
_OF_THE_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def is_launched() -> bool:
    """Return whether `accelerate launch` or `torchrun` started this process; to be asked before training options are
    read.
    """
    return "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ


def leaves_work_to_another(command: str) -> bool:
    """
    Return whether this is one of several processes, and not the first; the first one works as if it were alone.

    Args:
        command (`str`): Name of the command, for the message.
    """
    count = _number("WORLD_SIZE", 1)
    if count < 2:
        return False
    if _number("RANK", 0) != 0:
        return True
    print(f"{count} processes were started, but `{command}` works in one; the others end.", file=sys.stderr)
    for name in _OF_THE_LAUNCHER:
        os.environ.pop(name, None)
    return False


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default
