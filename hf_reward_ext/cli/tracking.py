"""Numbers and rows of a command in experiment trackers (`--report_to`), through accelerate."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Lists of these columns begin with the best candidate.
_BEST_FIRST = {"completions": "completion", "rewards": "reward", "labels": "label"}
_SCALARS = (str, int, float, bool)
_FOLDER = "runs"  # of TensorBoard, unless TENSORBOARD_LOGGING_DIR is set
PROJECT = "hf_reward_ext"


def check_trackers(names: Sequence[str] | None) -> None:
    """
    Reject trackers that are not installed.

    Args:
        names (`list[str]`, *optional*): Names as accelerate has them: tensorboard, wandb, trackio, comet_ml, ...

    Raises:
        ValueError: For the first name that is not installed.
    """
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    installed = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in installed:
            raise ValueError(
                f"--report_to must name installed trackers ({', '.join(installed) or 'there is none'}), got {name!r}; "
                "install its package, or leave it out"
            )


def track(
    names: Sequence[str] | None,
    command: str,
    settings: Mapping[str, Any],
    numbers: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]] = (),
) -> None:
    """
    Log a finished command as one run: settings, numbers, and a table of the rows where the tracker has tables.

    Args:
        names (`list[str]`, *optional*): Names of trackers.
        command (`str`): Name of the command.
        settings (`dict`): Options that the numbers depend on.
        numbers (`dict`): Results; values that are no numbers are left out.
        rows (iterable of `dict`): Rows of the command.
    """
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    table = [_flat(row) for row in rows]
    values = {
        f"{command}/{name}": value
        for name, value in numbers.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for name in names:
        kind: Any = LOGGER_TYPE_TO_CLASS[name]
        place = {"logging_dir": os.environ.get("TENSORBOARD_LOGGING_DIR", _FOLDER)}
        tracker = kind(PROJECT, **(place if kind.requires_logging_directory else {}))
        tracker.start()
        tracker.store_init_configuration(
            {key: value if isinstance(value, _SCALARS) else str(value) for key, value in settings.items()}
        )
        tracker.log(values, step=0)
        if table:
            _log_table(tracker, name, f"{command}/rows", table)
        tracker.finish()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that a table can show; of candidates the best one."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if name in _BEST_FIRST and isinstance(value, list) and value:
            shown[_BEST_FIRST[name]] = value[0]
        elif isinstance(value, _SCALARS):
            shown[name] = value
        elif name == "prompt":
            shown[name] = "\n".join(
                f"{turn['role']}: {turn.get('content') or turn.get('tool_calls', '')}" for turn in value
            )
    return shown


def _log_table(tracker: Any, name: str, title: str, table: list[dict[str, Any]]) -> None:
    import pandas as pd

    frame = pd.DataFrame(table)
    if hasattr(tracker, "log_table"):
        tracker.log_table(title, dataframe=frame)
    elif name == "trackio":
        import trackio  # pyright: ignore[reportMissingImports]

        tracker.log({title: trackio.Table(dataframe=frame)})
    elif name == "tensorboard":
        from hf_reward_ext.base.saving.markdown import markdown_table

        tracker.tracker.add_text(title, markdown_table(table))
