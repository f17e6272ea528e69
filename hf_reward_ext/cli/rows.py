"""Loading of rows from the Hub, or from a local file or folder."""

import gzip
import json
from pathlib import Path
from typing import Any, cast

from datasets import Dataset, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError

from hf_reward_ext.base.saving.paths import is_path

Rows = Dataset | IterableDataset
_KINDS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}
_COMPRESSED = (".json", ".jsonl", ".csv")  # also as `.gz`, which `datasets` extracts


def load_splits(name: str, config: str | None = None, streaming: bool = False) -> dict[str, Rows]:
    """
    Load all splits of a dataset.

    Args:
        name (`str`): Name on the Hub; or a json, jsonl, csv (also with `.gz`), parquet or arrow file, whose only
            split is `"train"`;
            or a folder of such files (`train.jsonl`, `test.jsonl`), or one written by `save_to_disk`.
        config (`str`, *optional*): Configuration of a dataset on the Hub.
        streaming (`bool`, *optional*): Whether to read rows when they are needed.

    Raises:
        FileNotFoundError: If `name` can only be a file, and does not exist.
        ValueError: If a file has another format.
    """
    path = Path(name)
    if path.is_file():
        if _suffix(path) not in _KINDS:
            raise ValueError(
                f"The data file {name!r} ends with {path.suffix!r}, but rows are read from {', '.join(_KINDS)} files, "
                f"and from {', '.join(_COMPRESSED)} files compressed as .gz. Convert it."
            )
        try:
            splits: Any = load_dataset(_KINDS[_suffix(path)], data_files=name, streaming=streaming)
        except (DatasetsError, StopIteration, ValueError) as error:  # the second for a file without rows
            raise _unreadable(path, error) from error
        return dict(splits)
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
        saved = load_from_disk(name)
        splits = {"train": saved} if isinstance(saved, Dataset) else saved
        return {split: rows.to_iterable_dataset() if streaming else rows for split, rows in splits.items()}
    if not path.is_dir() and (_suffix(path) in _KINDS or is_path(name)):
        raise FileNotFoundError(
            f"The data must be a file, a folder, or a name on the Hub, but there is no file {name!r}. Check the path."
        )
    splits = load_dataset(name, config, streaming=streaming)
    return dict(splits)


def _suffix(path: Path) -> str:
    """Return the suffix of the content, which is that before `.gz`."""
    content = path.with_suffix("").suffix
    return content if path.suffix == ".gz" and content in _COMPRESSED else path.suffix


def _unreadable(path: Path, error: Exception) -> ValueError:
    """What is wrong with a data file, by its line where it is JSON."""
    cause = f"it cannot be read ({' '.join(str(error.__cause__ or error).split())[:200]})"
    if path.stat().st_size == 0:
        cause = "it has no rows"
    elif _suffix(path) in (".json", ".jsonl"):
        cause = _find_bad_line(path) or cause
    return ValueError(f"The data file {str(path)!r} must hold rows, but {cause}. Correct the file, or pass another.")


def _find_bad_line(path: Path) -> str | None:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        count = 0
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line.strip() else None
                json.dumps(row, ensure_ascii=False).encode()
            except ValueError as error:  # of JSON and of Unicode
                return f"line {number} is no JSON in UTF-8 ({error})"
            if row is not None and not isinstance(row, dict):
                return f"line {number} is no JSON object"
            count += row is not None
    return None if count else "it has no rows"


def take_split(splits: dict[str, Rows], split: str, name: str, option: str) -> Rows:
    """
    Return one split.

    Args:
        splits (`dict`): Result of [`load_splits`].
        split, name (`str`): Name of the split, and of the dataset.
        option (`str`): Option for the split, for messages.

    Raises:
        ValueError: If the split does not exist, or has no rows.
    """
    if split not in splits:
        raise ValueError(
            f"The split {split!r} was asked for, but {name!r} has {sorted(splits)}. Pass one of them as {option}."
        )
    rows = splits[split]
    if next(iter(rows), None) is None:
        raise ValueError(f"The split {split!r} of {name!r} has no rows, but there must be work to do. Pass other data.")
    return rows


def load_rows(name: str, split: str | None = None, config: str | None = None, *needed: tuple[str, ...]) -> Dataset:
    """
    Load the rows of one split into memory.

    Args:
        name, config (`str`): As for [`load_splits`].
        split (`str`, *optional*): Name of the split. Default: the only one, or `"test"`.
        needed (`tuple[str, ...]`): Required columns, as for [`check_columns`].

    Raises:
        FileNotFoundError, ValueError: If the rows do not exist, or lack columns.
    """
    splits = load_splits(name, config)
    if not splits:
        raise ValueError(f"The data {name!r} must have rows, got none. Pass other data.")
    split = split or (next(iter(splits)) if len(splits) == 1 else "test")
    rows = cast(Dataset, take_split(splits, split, name, "--split"))
    if needed:
        check_columns(rows, name, *needed)
    return rows


def check_columns(rows: Rows, name: str, *needed: tuple[str, ...]) -> None:
    """
    Raise `ValueError` unless the rows have all columns of one of the tuples.

    Example:
    ```python
    >>> check_columns(rows, "pairs.jsonl", ("prompt", "chosen", "rejected"), ("chosen", "rejected"))
    ```
    """
    given = rows.column_names or list(next(iter(rows)))
    if not any(set(columns) <= set(given) for columns in needed):
        wanted = " or ".join("{" + ", ".join(columns) + "}" for columns in needed)
        raise ValueError(f"The rows of {name!r} have the columns {given}, but {wanted} is needed. Rename columns.")
