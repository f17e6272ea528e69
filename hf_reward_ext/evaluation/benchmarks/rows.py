"""Rows of any benchmark: a prompt, better responses and worse responses."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from datasets import DatasetDict, IterableDatasetDict

Row = TypeVar("Row")


class PreferenceRow(NamedTuple):
    """
    One row to evaluate.

    Args:
        prompt, chosen, rejected: Prompt, and lists of better and of worse responses, as text or messages.
        subset, name (`str`): Subset and id of the row.
        group (`str`): Group of rows that are evaluated together or not at all.
    """

    prompt: str | list
    chosen: list
    rejected: list
    subset: str = ""
    name: str = ""
    group: str = ""


def read_rows(dataset: Iterable[dict], columns: Sequence[str], read: Callable[[dict], Row], what: str) -> list[Row]:
    """
    Read all rows of a dataset.

    Args:
        dataset (`Dataset`, `IterableDataset` or `list` of `dict`): Rows to read.
        columns (`list[str]`): Columns that each row must have.
        read (`callable`): Reader of one row, which raises `ValueError` for an invalid value.
        what (`str`): Name of the benchmark, for messages.

    Raises:
        TypeError: For a dict of splits.
        ValueError: If there are no rows, a column is missing, or a value is invalid; the message names the row.
    """
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        raise TypeError(
            f"`dataset` must be one split, got the splits {sorted(map(str, dataset))}. "
            "Pass for example `dataset['test']`."
        )
    rows = []
    for number, example in enumerate(dataset):
        missing = [column for column in columns if column not in example]
        if missing:
            raise ValueError(
                f"Row {number} has the columns {sorted(example)}, but {what} rows need {sorted(columns)}: "
                f"{', '.join(map(repr, missing))} missing. Rename the columns, or pass the `format` of these rows."
            )
        try:
            rows.append(read(example))
        except ValueError as error:
            raise ValueError(f"Row {number} of the {what} rows: {error}") from error
    if not rows:
        raise ValueError(f"The dataset has no rows, but an accuracy is a mean over {what} rows. Pass at least one.")
    return rows
