"""Guards of all trainers: a token count and a patience that survive restarts, and a check of gradients."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import ExportableState, TrainerState
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


def restore_patience(callbacks: Iterable[TrainerCallback], state: TrainerState) -> bool:
    """
    Restore the counts of early stopping from a checkpoint, and return whether they had ended the training.

    Trainer starts to count again after a resume, so that a resumed training would be longer than one without a stop.
    """
    is_ended = False
    for callback in callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            saved = state.stateful_callbacks.get(type(callback).__name__, {})  # pyright: ignore[reportAttributeAccessIssue]
            count = saved.get("attributes", {}).get("early_stopping_patience_counter", 0)
            callback.early_stopping_patience_counter = count
            is_ended = is_ended or count >= callback.early_stopping_patience
    return is_ended


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
