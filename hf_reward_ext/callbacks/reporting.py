"""Values of a callback, where the values of an evaluation go."""

from collections.abc import Mapping

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_reward_ext.base.private_api import running_trainer


def report(
    values: Mapping[str, float],
    metrics: dict[str, float],
    args: TrainingArguments,
    state: TrainerState,
    control: TrainerControl,
) -> None:
    """
    Puts values into the metrics of an evaluation, into `state.log_history`, and on every tracker that is on.

    A trainer logs its metrics before it calls `on_evaluate`, and chooses the best checkpoint by them after it. So what
    a callback adds counts for `metric_for_best_model`, and would be logged nowhere.

    Args:
        values (`dict` from `str` to `float`): Without the prefix; all processes hold the same.
        metrics (`dict` from `str` to `float`): What `on_evaluate` gets. With several evaluation sets its keys start
            with the name of one (`eval_math_loss`), and so do the values.
    """
    prefix = metric_prefix(metrics)
    named = {f"{prefix}_{name}": float(value) for name, value in values.items()}
    metrics.update(named)
    last = state.log_history[-1] if state.log_history else {}
    if last.get("step") == state.global_step and f"{prefix}_runtime" in last:
        last.update(named)
    else:
        state.log_history.append({**named, "epoch": state.epoch, "step": state.global_step})
    trainer = running_trainer()
    if trainer is not None:
        trainer.callback_handler.on_log(args, state, control, {**named, "epoch": state.epoch})


def metric_prefix(metrics: Mapping[str, float]) -> str:
    """`"eval"`, or `"eval_name"` of one of several evaluation sets."""
    timed = [name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime")]
    return timed[0] if timed else "eval"


def check_early_stopping(callback: TrainerCallback) -> None:
    """
    Refuses an `EarlyStoppingCallback` that looks at the metrics before this callback has added its own.

    Raises:
        ValueError: If one stands before it.
    """
    trainer = running_trainer()
    callbacks = trainer.callback_handler.callbacks if trainer is not None else [callback]
    before = callbacks[: callbacks.index(callback)]
    if any(isinstance(other, EarlyStoppingCallback) for other in before):
        raise ValueError(
            f"`EarlyStoppingCallback` stands before `{type(callback).__name__}`, but callbacks run in their order, so "
            "it would never see the values. Put it last in `callbacks`."
        )
