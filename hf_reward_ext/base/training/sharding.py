"""Check of trainings whose weights accelerate is asked to shard (FSDP)."""

import os
from typing import Any

from accelerate.utils import DistributedType


def wants_shards(args: Any) -> bool:
    """Return whether FSDP was asked for, by the training arguments or by `accelerate launch`."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def is_sharded(accelerator: Any) -> bool:
    """Return whether the weights are sharded."""
    return accelerator.distributed_type == DistributedType.FSDP


def check_sharded(args: Any, accelerator: Any) -> None:
    """
    Raise an error if FSDP was asked for, but accelerate would train replicas of all weights without a message.

    Args:
        args (`TrainingArguments`): Training arguments.
        accelerator (`Accelerator`): Accelerator of the trainer.

    Raises:
        ValueError: If the weights are not sharded.
    """
    if wants_shards(args) and not is_sharded(accelerator):
        raise ValueError(
            f"`fsdp` was given, but accelerate shards weights over several accelerators only, got "
            f"{accelerator.num_processes} process(es) on {accelerator.device.type!r}. Leave `fsdp` out: every process "
            "then has a replica."
        )
