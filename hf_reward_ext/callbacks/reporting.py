"""Logging of a callback's values like those of an evaluation."""

from collections.abc import Mapping

from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


def log_metrics(
    values: Mapping[str, float],
    metrics: dict[str, float],
    args: TrainingArguments,
    state: TrainerState,
    control: TrainerControl,
    trainer: Trainer | None = None,
) -> None:
    """
    Add values to the metrics of an evaluation, to `state.log_history`, and to the trackers of a trainer.

    A trainer logs its metrics before it calls `on_evaluate`, and selects the best checkpoint afterwards. Values added
    by a callback can therefore be `metric_for_best_model`, but the trainer does not log them.

    Args:
        values (`dict` from `str` to `float`): Values without the prefix, the same on all processes.
        metrics (`dict` from `str` to `float`): Metrics passed to `on_evaluate`. With several evaluation sets the
            keys start with the name of one set (`eval_math_loss`), which is added to the values too.
        args, state, control: Arguments of the event.
        trainer (`Trainer`, *optional*): Trainer whose trackers (`report_to`) receive the values.
    """
    prefix = metric_prefix(metrics)
    named = {f"{prefix}_{name}": float(value) for name, value in values.items()}
    metrics.update(named)
    last = state.log_history[-1] if state.log_history else {}
    if last.get("step") == state.global_step and f"{prefix}_runtime" in last:
        last.update(named)
    else:
        state.log_history.append({**named, "epoch": state.epoch, "step": state.global_step})
    if trainer is not None:
        trainer.callback_handler.on_log(args, state, control, {**named, "epoch": state.epoch})


def metric_prefix(metrics: Mapping[str, float]) -> str:
    """Return the prefix of the metrics, `"eval"`, or `"eval_name"` with several evaluation sets."""
    timed = [name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime")]
    return timed[0] if timed else "eval"
