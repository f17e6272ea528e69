"""Conversion of training data to a dataset of plain Python values."""

from collections.abc import Iterable
from typing import cast

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict


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
