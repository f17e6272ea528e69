"""Values of a callback, where the values of an evaluation go."""

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
    Puts values into the metrics of an evaluation, into `state.log_history`, and on the trackers of a trainer.

    A trainer logs its metrics before it calls `on_evaluate`, and chooses the best checkpoint by them after it. So what
    a callback adds counts for `metric_for_best_model`, but the trainer itself logs it nowhere.

    Args:
        values (`dict` from `str` to `float`): Values without the prefix; all processes hold the same.
        metrics (`dict` from `str` to `float`): Metrics that `on_evaluate` gets. With several evaluation sets its keys
            start with the name of one (`eval_math_loss`), and so do the values.
        args, state, control: Those of the event.
        trainer (`Trainer`, *optional*): Its trackers (`report_to`) get the values too.
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
    """`"eval"`, or `"eval_name"` of one of several evaluation sets."""
    timed = [name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime")]
    return timed[0] if timed else "eval"
