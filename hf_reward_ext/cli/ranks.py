"""Rows of a command, split over the processes that `accelerate launch` or `torchrun` starts."""

import atexit
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from hf_reward_ext.cli.processes import count_processes, own_rank

# A batch may take hours; a process that has died is noticed by the launcher, which ends the others.
_LONGEST_ROUND = timedelta(days=7)


class RankError(RuntimeError):
    """Error of another process."""


def join_processes() -> None:
    """Connect the processes, and give each its device; without effect for a single process."""
    if count_processes() < 2 or distributed.is_initialized():
        return
    if torch.accelerator.is_available():
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("gloo", timeout=_LONGEST_ROUND)
    atexit.register(distributed.destroy_process_group)


def share(value: Any) -> Any:
    """Return the value of the first process in all of them."""
    shared = [value]
    distributed.broadcast_object_list(shared)
    return shared[0]


def work_in_rounds(numbers: Sequence[int], work: Callable[[int], list]) -> Iterator[tuple[int, list]]:
    """
    Compute batches in all processes, one each at a time, and yield their numbers and rows in order to every process.

    Args:
        numbers (`list[int]`): Numbers of the batches, the same in every process.
        work (`callable`): Function from a number to its rows.

    Raises:
        RankError: If another process failed, with its message.
    """
    count, rank = count_processes(), own_rank()
    for start in range(0, len(numbers), count):
        group = numbers[start : start + count]
        rows, error = _try(work, group[rank]) if rank < len(group) else ([], None)
        found: list[Any] = [None] * count
        distributed.all_gather_object(found, (rows, error and _describe(error)))
        if error is not None:
            raise error
        for other, (_, message) in enumerate(found):
            if message is not None:
                raise RankError(f"Process {other} failed: {message}")
        yield from zip(group, (rows for rows, _ in found), strict=False)  # the last group may be shorter


def _try(work: Callable[[int], list], number: int) -> tuple[list, Exception | None]:
    try:
        return work(number), None
    except Exception as error:
        return [], error


def _describe(error: Exception) -> str:
    return " ".join("".join(traceback.format_exception_only(error)).split())
