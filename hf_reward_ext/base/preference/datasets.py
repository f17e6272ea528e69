"""Conversion of training data to a dataset of plain Python values, and of its rows to token ids."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hf_reward_ext.base.preference.validation import naming_row

logger = logging.getLogger(__name__)


def plain_dataset(dataset, name: str) -> Dataset | IterableDataset:
    """
    Return the rows of a dataset as Python values, whatever its format or transform.

    Args:
        dataset (`Dataset` or `IterableDataset`): The data. A transform (`with_transform`) is applied once to every row.
        name (`str`): Name of the data, for example "train".

    Raises:
        TypeError: If `dataset` is no dataset, or a dictionary of splits.
        ValueError: If `dataset` is missing or has no rows.
    """
    if dataset is None:
        raise ValueError(f"The {name} data must be a `Dataset` or `IterableDataset`, got None. Pass `{name}_dataset`.")
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        raise TypeError(
            f"The {name} data must be one dataset, got the splits {list(dataset)}. Pass one of them, for example "
            f"`data[{next(iter(dataset), 'train')!r}]`."
        )
    if not isinstance(dataset, Dataset | IterableDataset):
        raise TypeError(
            f"The {name} data must be a `Dataset` or `IterableDataset`, got a `{type(dataset).__name__}`. For a list "
            "of rows pass `Dataset.from_list(rows)`."
        )
    if isinstance(dataset, Dataset) and dataset.format["type"] == "custom":
        dataset = Dataset.from_list(list(dataset))  # pyright: ignore[reportArgumentType]
    dataset = cast(Dataset | IterableDataset, dataset.with_format(None))
    if next(iter(dataset), None) is None:
        raise ValueError(f"The {name} data has no rows. Pass a dataset with at least one.")
    return dataset


def rows_to_check(dataset: Dataset | IterableDataset) -> Iterable[dict]:
    """Return all rows of a map-style dataset; of a stream the first, as the others are checked later."""
    return cast(Iterable[dict], dataset) if isinstance(dataset, Dataset) else [next(iter(dataset))]


def columns_of(dataset: Dataset | IterableDataset) -> list[str]:
    """Return the column names, taken from the first row if a stream has no schema."""
    return list(dataset.column_names or next(iter(dataset)))


def tokenize_rows(
    dataset: Dataset | IterableDataset,
    tokenize: Callable[[dict], dict],
    *,
    num_proc: int | None = None,
    name: str,
    removed: list[str] | None = None,
) -> Dataset | IterableDataset:
    """
    Add the columns that a function returns for each row.

    Args:
        dataset (`Dataset` or `IterableDataset`): The data.
        tokenize (`callable`): Function of a row.
        num_proc (`int`, *optional*): Number of processes for a map-style dataset.
        name (`str`): Name of the data.
        removed (`list[str]`, *optional*): Columns to remove.

    Raises:
        ValueError: If a row is malformed; its number is named.
    """
    options: dict[str, Any] = {"fn_kwargs": {"tokenize": tokenize, "name": name}, "remove_columns": removed}
    if isinstance(dataset, Dataset):
        options |= {"num_proc": num_proc, "desc": f"Tokenizing {name}"}
    return dataset.map(_tokenize_row, with_indices=True, **options)


def drop_long_rows(
    rows: Dataset | IterableDataset,
    num_tokens: Callable[[dict], int],
    max_length: int | None,
    name: str,
    what: str = "pairs",
) -> Dataset | IterableDataset:
    """
    Drop rows with too many tokens; their number is logged.

    Args:
        rows (`Dataset` or `IterableDataset`): Tokenized rows.
        num_tokens (`callable`): Function of a row that returns its number of tokens.
        max_length (`int`, *optional*): Maximum number of tokens.
        name (`str`): Name of the data.
        what (`str`, *optional*): Plural noun for the rows, for messages.

    Raises:
        ValueError: If no row is left.
    """
    if max_length is None:
        return rows
    kept = rows.filter(lambda row: num_tokens(row) <= max_length)
    if isinstance(rows, Dataset):
        check_lengths(len(rows), len(cast(Dataset, kept)), max_length, name, what)
    return kept


def check_lengths(num_rows: int, num_kept: int, max_length: int, name: str, what: str = "pairs") -> None:
    """
    Log the number of rows that are too long.

    Raises:
        ValueError: If no row is left.
    """
    if num_kept == 0:
        raise ValueError(
            f"All {num_rows} {what} of the {name} data have more than `max_length={max_length}` tokens, so nothing is "
            "left. Raise `max_length`."
        )
    if num_kept < num_rows:
        logger.info("%d of %d %s %s have more than %d tokens.", num_rows - num_kept, num_rows, name, what, max_length)


def _tokenize_row(row: dict, number: int, tokenize: Callable[[dict], dict], name: str) -> dict:
    with naming_row(number, name):
        return tokenize(row)
