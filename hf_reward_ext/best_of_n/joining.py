"""Parts of rows become one file, one part in memory at a time."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from datasets import Dataset


def join_lines(parts: Iterator[list[dict]], path: Path) -> int:
    """Writes JSON lines and returns how many; they are on the disk then."""
    count = 0
    with path.open("w") as file:
        for rows in parts:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            count += len(rows)
        file.flush()
        os.fsync(file.fileno())
    return count


def join_arrow(parts: Iterator[list[dict]], path: Path) -> int:
    """Writes an Arrow stream, its types read off the first part, and returns the number of rows."""
    first = next(parts, None)
    if first is None:
        return 0
    schema = Dataset.from_list(first).features.arrow_schema
    count = 0
    with path.open("wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for rows in _with(first, parts):
            stream.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
        file.flush()
        os.fsync(file.fileno())
    return count


def _with(first: list[dict], others: Iterator[list[dict]]) -> Iterator[list[dict]]:
    yield first
    yield from others
