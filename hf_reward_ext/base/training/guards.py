"""Callbacks of all trainers: a token count that survives restarts, and a check of gradients before each update."""

from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import get_last_checkpoint


class TokenCount(TrainerCallback, ExportableState):
    """Number of training tokens so far, saved with each checkpoint."""

    def __init__(self, num_tokens: int = 0):
        self.num_tokens = num_tokens

    def on_train_begin(self, args, state, control, **kwargs):
        """Restore the count of the checkpoint that training resumes from; 0 without one."""
        saved = state.stateful_callbacks.get(type(self).__name__, {})  # pyright: ignore[reportAttributeAccessIssue]
        self.num_tokens = saved.get("args", {}).get("num_tokens", 0) if state.global_step else 0

    def state(self) -> dict:
        return {"args": {"num_tokens": self.num_tokens}, "attributes": {}}


class FiniteGradients(TrainerCallback):
    """Callback that raises before an update with non-finite gradients, unless a gradient scaler skips it."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if args.fp16 or model is None:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if gradients and not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise RuntimeError(non_finite_message("gradient", args, state))


def non_finite_message(what: str, args, state) -> str:
    """
    Return the error message for an infinite or NaN loss or gradient.

    Args:
        what (`str`): Name of the value.
        args (`TrainingArguments`): Training arguments.
        state (`TrainerState`): Progress of the training.
    """
    checkpoint = get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
    kept = f"; the last checkpoint is {checkpoint!r}" if checkpoint else ""
    return (
        f"The {what} of step {state.global_step + 1} must be finite, got inf or nan. The weights are those after step "
        f"{state.global_step}{kept}. Check that the model starts from finite weights, lower `learning_rate`, or train "
        "in float32 or bfloat16."
    )
