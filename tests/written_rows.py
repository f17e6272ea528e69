"""Kills at an operation on the disk, and rows read back from either format."""

import itertools
import json
import os

from datasets import Dataset, Json


class Killed(BaseException):
    """A process that is killed: nothing that it would still do is done."""


OPERATIONS = ("replace", "unlink", "rmdir", "mkdir", "fsync")


def count_operations(monkeypatch, dies_at, error):
    """Numbers what changes the disk; at one number an error is raised, and if it kills, at all that follow."""
    count = itertools.count()

    def wrap(operation):
        def wrapped(*args, **kwargs):
            number = next(count)
            if number == dies_at or (number > dies_at and error is Killed):
                raise error
            return operation(*args, **kwargs)

        return wrapped

    for name in OPERATIONS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return count


def is_same(value, other):
    """Equality, where a missing key is None."""
    if isinstance(value, dict):
        return all(is_same(value.get(key), other.get(key)) for key in {**value, **other})
    if isinstance(value, list):
        return isinstance(other, list) and len(value) == len(other) and all(map(is_same, value, other))
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def read_arrow(path):
    """Rows of an Arrow file; columns of several types by Python's JSON, since that of datasets rounds floats."""
    dataset = Dataset.from_file(str(path))
    mixed = [name for name, feature in dataset.features.items() if isinstance(feature, Json)]
    rows = dataset.data.table.to_pylist()
    return [
        {name: json.loads(value) if name in mixed and value is not None else value for name, value in row.items()}
        for row in rows
    ]
