"""Writer of a file in parts: the file is complete or missing, and a killed run resumes."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, cast

from datasets import Dataset

from hf_reward_ext.base.saving.atomic import check_target, naming_file, replace_file, replace_text
from hf_reward_ext.base.saving.parts import Parts, describe_changes, has_fields
from hf_reward_ext.best_of_n.joining import join_arrow, join_lines

_FORMAT = "hf_reward_ext rows 1"


class ResumableWriter:
    """
    Writer that collects rows in parts and joins them to a file when all are complete.

    An existing file does not change before the new one is complete on disk. `<name>.info.json` in the same folder has
    the settings, size and hash of the finished file; the folder `<name>.parts` is then deleted. A file can be written
    by one process at a time.

    Args:
        path (`str` or `Path`): File to write, `*.jsonl`, or `*.arrow` for `Dataset.from_file`.
        settings (`dict`): Settings that the rows depend on in addition to the inputs of each part, as JSON values. A
            run can only be resumed with the same settings.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace an existing file once the new one is
            complete. Parts with the same settings are resumed in any case.

    Raises:
        ValueError: If the file name has another ending; an existing file was not written by this class, was changed, or
            has other settings; or another file has the name of the description or the parts.

    Example:
    ```python
    >>> with ResumableWriter("rows.jsonl", {"seed": 0}) as writer:
    ...     for number, prompts in enumerate(parts):
    ...         if not writer.has(number, prompts):
    ...             writer.write(number, prompts, rows_of(prompts))
    ...     writer.finish()
    ```
    """

    def __init__(self, path: str | Path, settings: dict[str, Any], *, overwrite: bool = False):
        self.path = Path(path)
        if self.path.suffix not in (".jsonl", ".arrow"):
            raise ValueError(f"`path` must end with '.jsonl' or '.arrow', got {str(path)!r}. Rename it.")
        self.info = self.path.with_name(self.path.name + ".info.json")
        check_target(self.path)
        self._parts = Parts(self.path, settings, overwrite)
        self._finished = self._read_finished(overwrite)

    @property
    def parts(self) -> Path:
        """Folder of unfinished parts."""
        return self._parts.folder

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the rows depend on."""
        return self._parts.settings

    @property
    def is_finished(self) -> bool:
        """Whether the file is complete and has these settings."""
        return self._finished is not None

    def __enter__(self) -> Self:
        if not self.is_finished:
            self._parts.lock()
        return self

    def __exit__(self, *_) -> None:
        self._parts.close()

    def has(self, number: int, inputs: Sequence) -> bool:
        """
        Return whether a part exists; parts must be queried in order.

        Args:
            number (`int`): Number of the part.
            inputs (`list`): Inputs from which its rows are made, as JSON values.

        Raises:
            ValueError: If the existing part has other inputs or settings, or is broken.
            RuntimeError: If another process writes the file.
        """
        if self._finished is None:
            return self._parts.has(number, inputs)
        if self._finished["parts"][number : number + 1] != [self._parts.ask(number, inputs)]:
            raise ValueError(
                f"Part {number} in {self.path} was made of other prompts or with other settings, so this run cannot "
                f"resume from it. Use the data of before, start again (`overwrite`), or choose another path."
            )
        return True

    def write(self, number: int, inputs: Sequence, rows: Sequence[dict]) -> None:
        """
        Write a part, which may have no rows.

        Raises:
            TypeError, ValueError: If JSON or Arrow cannot store a value in a row; the message names the position.
            OSError: If it cannot be written.
        """
        self._parts.write(number, inputs, rows)

    def finish(self) -> Path:
        """
        Join the parts that were queried or written, and return the path.

        Raises:
            ValueError: If no part has a row, or the finished file has more parts.
        """
        if self._finished is not None:
            self._check_number(self._finished)
            self._parts.remove()  # left by a run that was killed while joining
            return self.path
        self._parts.lock()
        if not any(self._parts):
            raise ValueError(
                f"None of the {len(self._parts.digests)} parts has a row, so there is nothing to write. Loosen what "
                f"makes a row, such as `min_margin`, and delete {self.parts}."
            )
        joined = self.parts / f"result.rows{self.path.suffix}"
        join = join_arrow if self.path.suffix == ".arrow" else join_lines
        counts = []
        replace_file(joined, lambda draft: counts.append(join(self._parts, draft)), self.parts / "result.draft")
        described = {
            "format": _FORMAT,
            "settings": self.settings,
            "num_rows": counts[0],
            **_describe(joined),
            "parts": self._parts.digests,
        }
        text = json.dumps(described, indent=1)
        # Recorded before the file is renamed, so that a run killed in between recognizes the file.
        replace_text(self._note, text, self.parts / "result.draft")
        with naming_file(self.path):
            os.replace(joined, self.path)
        replace_text(self.info, text, self.parts / "result.draft")
        self._parts.remove()
        return self.path

    @property
    def _note(self) -> Path:
        return self.parts / "result.info.json"

    def _read_finished(self, overwrite: bool) -> dict | None:
        """Return the record of the file, if it is finished and can be kept."""
        recorded = _read_info(self.info)
        if self.info.exists() and recorded is None:
            raise ValueError(
                f"{str(self.info)!r} must be free for the record of the file, but another file has that name, "
                "or this record was changed. Rename it, or choose another path."
            )
        if not self.path.exists():
            return None
        noted = _read_info(self._note)
        if recorded is not None and _is_described(self.path, recorded):
            changed = describe_changes(recorded["settings"], self.settings)
            if not changed and (not overwrite or noted is not None):  # the run was killed while it deleted the parts
                return recorded
            if not overwrite:
                raise ValueError(
                    f"{self.path} was made of other prompts or with other settings ({changed}). Use the settings of "
                    "before, start again (`overwrite`), or choose another path."
                )
        elif noted is not None and _is_described(self.path, noted):
            return None  # killed after the file was renamed: all parts still exist
        elif recorded is None and not overwrite:
            raise ValueError(
                f"{self.path} exists, but it was not written by this class. Delete it, choose another path, or "
                "replace it (`overwrite`)."
            )
        elif not overwrite:
            raise ValueError(
                f"{self.path} has {self.path.stat().st_size} bytes, but {recorded['num_rows']} rows of "
                f"{recorded['size']} bytes were written; it was truncated or changed. Delete it, or make it again "
                "(`overwrite`)."
            )
        return None

    def _check_number(self, finished: dict) -> None:
        if len(finished["parts"]) != len(self._parts.digests):
            raise ValueError(
                f"{self.path} was made of {len(finished['parts'])} parts, but {len(self._parts.digests)} were asked "
                "for. Use the data of before, start again (`overwrite`), or choose another path."
            )


def read_back(path: Path) -> Iterable[dict]:
    """Read the rows of a finished file."""
    if path.suffix == ".arrow":
        yield from cast(Iterable[dict], Dataset.from_file(str(path)))
        return
    with path.open(encoding="utf-8", newline="\n") as lines:
        yield from map(json.loads, lines)


def _read_info(path: Path) -> dict | None:
    """Return the record in a file; `None` if it is missing or another file."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return info if has_fields(info, _FORMAT, settings=dict, num_rows=int, size=int, sha256=str, parts=list) else None


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _is_described(path: Path, info: dict) -> bool:
    return path.stat().st_size == info["size"] and _describe(path) == {key: info[key] for key in ("size", "sha256")}
