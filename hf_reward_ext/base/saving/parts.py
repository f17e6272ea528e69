"""Numbered parts of an unfinished file, from which a killed run can resume."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from hf_reward_ext.base.saving.atomic import check_target, naming_file, replace_text
from hf_reward_ext.base.saving.json_values import check_json, digest

_OURS = re.compile(r"part-\d{6}\.json(\.tmp)?|result(\.\w+)+")
_FORMAT = "hf_reward_ext part 1"


class Parts:
    """
    A folder `<name>.parts` with the finished parts of a file, and a lock against other processes.

    A part has two lines, a header and its rows, and is either complete or missing.

    Args:
        path (`str` or `Path`): Path of the complete file.
        settings (`dict`): Settings that every part depends on, as JSON values.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace parts with other settings or inputs, and
            broken ones. By default they raise an error.

    Raises:
        TypeError: If the settings are not JSON values.
        ValueError: If a file or link has the folder's name, or the folder has files that are not parts.

    Example:
    ```python
    >>> with Parts("rows.jsonl", {"seed": 0}) as parts:
    ...     if not parts.has(0, ["2+2="]):
    ...         parts.write(0, ["2+2="], [{"text": "4"}])
    ```
    """

    def __init__(self, path: str | Path, settings: dict[str, Any], overwrite: bool = False):
        check_json(settings, "settings")
        self.path = Path(path)
        self.folder = self.path.with_name(self.path.name + ".parts")
        self.settings = json.loads(json.dumps(settings))
        self.overwrite = overwrite
        self.digests: list[str] = []
        """Digest of the inputs of each part that was queried or written."""
        self._lock_file = self.path.with_name(f".{self.path.name}.lock")
        self._lock: FileLock | None = None
        self._check_folder()

    def lock(self) -> None:
        """
        Lock the file against other processes and threads until [`close`] or [`remove`], and create its folder.

        Raises:
            RuntimeError: If another process or thread writes the file.
            OSError: If the folder cannot be written to.
        """
        if self._lock is not None:
            return
        check_target(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One lock object per file and process, so that a failed run in a notebook does not block the next one.
        lock = FileLock(self._lock_file, timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise RuntimeError(
                f"{str(self.path)!r} must be written by one process at a time, and another is writing it. Wait for it, "
                "or choose another path."
            ) from error
        self._lock = lock

    def close(self) -> None:
        """Release the lock; parts are kept for the next run."""
        if self._lock is None:
            return
        with suppress(OSError):
            self.folder.rmdir()  # removed only if it is empty
        # Removed while it is held: a process that opened it in the meantime finds that it has no name, and retries.
        self._lock_file.unlink(missing_ok=True)
        self._lock.release(force=True)
        self._lock = None

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def ask(self, number: int, inputs: Sequence) -> str:
        """
        Record the inputs of a part, and return their digest.

        Raises:
            TypeError, ValueError: If the inputs are not JSON values; the message names the position.
        """
        check_json(list(inputs), f"The input of part {number}")
        self.digests[number:] = [digest(list(inputs))]
        return self.digests[number]

    def has(self, number: int, inputs: Sequence) -> bool:
        """
        Return whether a part exists; parts must be queried in order.

        Args:
            number (`int`): Number of the part.
            inputs (`list`): Inputs from which its rows are made, as JSON values.

        Raises:
            TypeError: If the inputs are not JSON values.
            ValueError: If the existing part is broken, or has other inputs or settings.
        """
        self.lock()
        self.ask(number, inputs)
        path = self._path(number)
        if not path.exists():
            return False
        try:
            header, _ = _read(path)
            self._check(header, number)
        except ValueError:
            if self.overwrite:
                return False
            raise
        return True

    def rows(self, number: int) -> list[dict]:
        """Return the rows of an existing part."""
        return json.loads(_read(self._path(number))[1])

    def write(self, number: int, inputs: Sequence, rows: Sequence[dict]) -> None:
        """
        Write a part, which may have no rows.

        Raises:
            TypeError, ValueError: If JSON or Arrow cannot store a value in a row; the message names the position.
            OSError: If it cannot be written.
        """
        self.lock()
        for index, row in enumerate(rows):
            check_json(row, f"Row {index} of part {number}")
        self.ask(number, inputs)
        with naming_file(self.folder):
            self.folder.mkdir(exist_ok=True)
        body = json.dumps(list(rows), ensure_ascii=False)
        header = {
            "format": _FORMAT,
            "settings": self.settings,
            "inputs": self.digests[number],
            "num_rows": len(rows),
            "sha256": hashlib.sha256(body.encode()).hexdigest(),
        }
        path = self._path(number)
        replace_text(path, f"{json.dumps(header)}\n{body}\n", draft=path.with_name(path.name + ".tmp"))

    def __iter__(self) -> Iterator[list[dict]]:
        for number in range(len(self.digests)):
            yield self.rows(number)

    def remove(self) -> None:
        """Delete the parts, but no other files, and release the lock."""
        if not self.folder.exists() and not self._lock_file.exists():
            return
        self.lock()
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if _OURS.fullmatch(path.name):
                    path.unlink()
        self.close()

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.json"

    def _check_folder(self) -> None:
        if not self.folder.exists() and not self.folder.is_symlink():
            return
        if self.folder.is_symlink() or not self.folder.is_dir():
            raise ValueError(
                f"{str(self.folder)!r} must be free for unfinished parts, but a file or link has that name. Rename it, "
                "or choose another path."
            )
        foreign = sorted(path.name for path in self.folder.iterdir() if not _OURS.fullmatch(path.name))
        if foreign:
            raise ValueError(
                f"The folder {str(self.folder)!r} must hold unfinished parts only, but {foreign[0]!r} is in it. Move "
                "it away, or choose another path."
            )

    def _check(self, header: dict, number: int) -> None:
        changed = describe_changes(header["settings"], self.settings)
        if header["inputs"] == self.digests[number] and not changed:
            return
        raise ValueError(
            f"Part {number} in {self.folder} was made of other prompts or with other settings"
            f"{f' ({changed})' if changed else ''}, so this run cannot resume from it. Use the settings of before, "
            f"start again (`overwrite`), delete {self.folder}, or choose another path."
        )


def describe_changes(before: dict, now: dict) -> str:
    """
    Return the first settings that differ, for a message; empty if none does.

    Example:
    ```python
    >>> describe_changes({"seed": 0}, {"seed": 1})
    'seed=0, now 1'
    ```
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    shown = [f"{name}={_short(before.get(name))}, now {_short(now.get(name))}" for name in names[:3]]
    return "; ".join(shown) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def has_fields(record: Any, format: str, **kinds: type) -> bool:
    """
    Return whether the JSON value of a file is a record of a format with all of its fields.

    Args:
        record: JSON value.
        format (`str`): Name of the format.
        **kinds (`type`): Fields and their types.

    Example:
    ```python
    >>> has_fields({"format": "rows 1", "size": "3"}, "rows 1", size=int)
    False
    ```
    """
    is_ours = isinstance(record, dict) and record.get("format") == format
    return is_ours and all(isinstance(record.get(name), kind) for name, kind in kinds.items())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read(path: Path) -> tuple[dict, str]:
    """Read and check the header and rows of a part."""
    broken = (
        f"The unfinished part {str(path)!r} is broken: {{}}. Delete that file, and give the same command again; it is "
        "made again."
    )
    try:
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        header, body = json.loads(first), rest.removesuffix("\n")
    except (ValueError, RecursionError) as error:  # invalid JSON or UTF-8
        raise ValueError(broken.format("it is truncated or not a part")) from error
    if not has_fields(header, _FORMAT, settings=dict, inputs=str, num_rows=int, sha256=str):
        raise ValueError(broken.format("it is not a part, or from another version"))
    if hashlib.sha256(body.encode()).hexdigest() != header["sha256"]:
        raise ValueError(broken.format(f"it does not have its {header['num_rows']} rows"))
    return header, body
