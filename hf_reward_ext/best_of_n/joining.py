"""Joining of parts into one file, with one part in memory at a time."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features, Json

Parts = Iterable[list[dict]]
# Errors of Arrow for values of several types in one column.
_MIXED = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


def join_lines(parts: Parts, path: Path) -> int:
    """Write JSON lines and return their number."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for rows in parts:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            count += len(rows)
    return count


def join_arrow(parts: Parts, path: Path) -> int:
    """
    Write an Arrow stream and return the number of rows.

    Types are inferred from all rows: missing columns become null, integers become floats if any row has a float, and a
    column whose values have no common type becomes `datasets.Json`.
    """
    features = read_features(parts)
    schema = features.arrow_schema
    count = 0
    with path.open("wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for rows in parts:
            if rows:
                columns = [_column([row.get(name) for row in rows], kind) for name, kind in features.items()]
                stream.write_table(pa.Table.from_arrays(columns, schema=schema))
                count += len(rows)
    return count


def read_features(parts: Parts) -> Features:
    """
    Return the types of all columns of all rows.

    Args:
        parts (iterable of `list` of `dict`): Parts, which are read several times.

    Example:
    ```python
    >>> read_features([[{"a": 1}], [{"a": 1.5, "b": "x"}]])
    {'a': Value('float64'), 'b': Value('string')}
    ```
    """
    types: dict[str, pa.DataType | None] = {}
    for rows in parts:
        for name in dict.fromkeys(name for row in rows for name in row):
            types[name] = _common(types.get(name, pa.null()), [row.get(name) for row in rows])
    for rows in parts:
        for name, kind in types.items():
            if kind is not None and not _holds(kind, [row.get(name) for row in rows]):
                types[name] = None
    plain = pa.schema([pa.field(name, pa.null() if kind is None else kind) for name, kind in types.items()])
    features = Features.from_arrow_schema(plain)
    return Features({name: Json() if types[name] is None else features[name] for name in types})


def _common(before: pa.DataType | None, values: list) -> pa.DataType | None:
    """Return a common type of earlier and new values, or `None`."""
    if before is None:
        return None
    try:
        schemas = [pa.schema([pa.field("", kind)]) for kind in (before, pa.array(values).type)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except _MIXED:
        return None


def _holds(kind: pa.DataType, values: list) -> bool:
    """Return whether a column of a type stores values unchanged."""
    try:
        return _is_same(values, pa.array(values, kind).to_pylist())
    except _MIXED:
        return False


def _is_same(value: Any, read: Any) -> bool:
    """Return whether values are equal, with missing keys of dictionaries as `None` as in Arrow."""
    if isinstance(value, dict) and isinstance(read, dict):
        return all(_is_same(value.get(key), read.get(key)) for key in {**value, **read})
    if isinstance(value, list | tuple) and isinstance(read, list):
        return len(value) == len(read) and all(map(_is_same, value, read))
    return value == read and isinstance(value, bool) == isinstance(read, bool)  # `False == 0.0`, but Arrow has types


def _column(values: list, kind: Any) -> pa.Array:
    if not isinstance(kind, Json):
        return pa.array(values, Features({"": kind}).arrow_schema.field(0).type)
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return pa.ExtensionArray.from_storage(kind.pa_type, pa.array(texts, kind.pa_type.storage_type))
