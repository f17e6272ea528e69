"""What a command prints in addition to its results: progress bars, and messages of this library and of others."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LEVELS = ("debug", "info", "warning", "error")
LIBRARIES = ("hf_reward_ext", "transformers", "datasets", "trl", "peft", "accelerate", "huggingface_hub")
_NOTES = "hf_reward_ext.cli"  # its notes for users are shown by default, which other messages of level info are not


@contextmanager
def verbosity(quiet: bool = False, level: str | None = None) -> Iterator[None]:
    """
    Set progress bars and levels of loggers while a command runs, and restore them.

    Args:
        quiet (`bool`, *optional*, defaults to `False`): Whether to hide progress bars and notes.
        level (`str`, *optional*): Lowest level of messages, a name of `logging`; `"error"` also hides warnings of
            Python. Default: the level of each library, and `"info"` for the notes of commands.
    """
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as of_transformers

    if level == "detail":  # a level of transformers
        level = "debug"
    levels = {_NOTES: "warning" if quiet else "info"} if level is None else dict.fromkeys(LIBRARIES, level)
    hides = [quiet and of_transformers.is_progress_bar_enabled(), quiet and not are_progress_bars_disabled()]
    before = {name: logging.getLogger(name).level for name in levels}
    handler = logging.StreamHandler()
    handled = [logging.getLogger(name) for name in levels if not logging.getLogger(name).handlers]
    with warnings.catch_warnings():
        try:
            if level in ("error", "critical"):
                warnings.simplefilter("ignore")
            for logger in handled:
                logger.addHandler(handler)
            for name, chosen in levels.items():
                logging.getLogger(name).setLevel(chosen.upper())
            if hides[0]:
                of_transformers.disable_progress_bar()  # also those of huggingface_hub
            if hides[1]:
                disable_progress_bars()
            yield
        finally:
            for name, number in before.items():
                logging.getLogger(name).setLevel(number)
            for logger in handled:
                logger.removeHandler(handler)
            if hides[0]:
                of_transformers.enable_progress_bar()
            if hides[1]:
                enable_progress_bars()
