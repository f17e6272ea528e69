"""Rows of any benchmark: one prompt, better responses, worse responses."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from datasets import DatasetDict, IterableDatasetDict


class PreferenceRow(NamedTuple):
    """
    One row to evaluate.

    Args:
        prompt, chosen, rejected: Text or messages; lists of responses, each better one above each worse one.
        subset, name (`str`): Subset and id of the row.
        group (`str`): Rows of one group count together or not at all.
    """

    prompt: str | list
    chosen: list
    rejected: list
    subset: str = ""
    name: str = ""
    group: str = ""


def read_rows(
    dataset: Iterable[dict], columns: Sequence[str], read: Callable[[dict], PreferenceRow], what: str
) -> list[PreferenceRow]:
    """
    Reads all rows of a dataset.

    Args:
        dataset (`Dataset`, `IterableDataset` or `list` of `dict`): The rows.
        columns (`list[str]`): Columns that each row must have.
        read (`callable`): Reader of one row; raises `ValueError` on a value that does not fit.
        what (`str`): Name of the benchmark, for messages.

    Raises:
        TypeError: For a dict of splits.
        ValueError: If there are no rows, a column is missing, or a value does not fit; the row is named.
    """
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        raise TypeError(
            f"A dict of the splits {sorted(map(str, dataset))} was given, but one split is evaluated. "
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
