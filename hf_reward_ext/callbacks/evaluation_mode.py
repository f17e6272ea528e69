"""Evaluation mode of a model in training, which restores all state afterwards."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import extract_model_from_parallel
from transformers import TrainingArguments
from trl.distributed import DistributedBackend
from trl.models import unwrap_model_for_generation


@contextmanager
def evaluation_mode(model, args: TrainingArguments) -> Iterator:
    """
    Yield the unwrapped model in evaluation mode, without gradients or gradient checkpointing.

    On exit the training modes of all modules, gradient checkpointing and the random states of Python, NumPy and torch
    are restored. All processes must enter it: weights sharded by FSDP are gathered as in TRL, those of ZeRO-3 layer by
    layer.

    Args:
        model (`PreTrainedModel`): Model that the trainer passes to a callback.
        args (`TrainingArguments`): Training arguments.

    Example:
    ```python
    >>> with evaluation_mode(model, args) as policy:
    ...     policy.generate(**inputs)
    ```
    """
    modes = {module: module.training for module in model.modules()}
    # TRL needs an accelerator, and a new one would overwrite the gradient accumulation of the trainer's.
    accelerator = SimpleNamespace(state=AcceleratorState(), unwrap_model=extract_model_from_parallel)
    with (
        same_random_states(args.device),
        torch.no_grad(),
        unwrap_model_for_generation(
            model,
            accelerator,  # pyright: ignore[reportArgumentType]
            gather_deepspeed3_params=False,
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,  # pyright: ignore[reportArgumentType]
        ) as policy,
        DistributedBackend(accelerator).summon_full_params(model, recurse=False, writeback=False),
    ):
        model.eval()
        try:
            yield policy
        finally:
            for module, mode in modes.items():
                module.training = mode


@contextmanager
def same_random_states(device: torch.device) -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch (CPU and `device`) on exit."""
    states = random.getstate(), np.random.get_state()
    devices = [] if device.type == "cpu" else [device]
    try:
        with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
