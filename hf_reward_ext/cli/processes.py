"""Processes started by `accelerate launch` or `torchrun`."""

import os
import sys

# Environment variables by which torch and accelerate detect other processes.
_OF_THE_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def is_launched() -> bool:
    """Return whether `accelerate launch` or `torchrun` started this process; call it before parsing options."""
    return "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ


def leaves_work_to_another(command: str) -> bool:
    """
    Return whether this is one of several processes, and not the first one, which does all work.

    Args:
        command (`str`): Name of the command, for messages.
    """
    count = count_processes()
    if count < 2:
        return False
    if own_rank() != 0:
        return True
    print(f"{count} processes were started, but `{command}` runs in one; the others end.", file=sys.stderr)
    for name in _OF_THE_LAUNCHER:
        os.environ.pop(name, None)
    return False


def count_processes() -> int:
    """Return the number of processes that were started together."""
    return max(1, _number("WORLD_SIZE", 1))


def own_rank() -> int:
    """Return the number of this process among them; the first one is 0."""
    return _number("RANK", 0)


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default
