"""Progress of a training on the terminal."""

from transformers import PrinterCallback, ProgressCallback, Trainer
from transformers.utils.logging import is_progress_bar_enabled


def follow_progress_setting(trainer: Trainer) -> None:
    """
    Remove the bar and the printed logs of a trainer if `transformers.utils.logging.disable_progress_bar` was called.

    Args:
        trainer ([`~transformers.Trainer`]): Trainer, before training; its history and trackers keep the logs.
    """
    if not is_progress_bar_enabled():
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)  # which prints all logs where there is no bar
