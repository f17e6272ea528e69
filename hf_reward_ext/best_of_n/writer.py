"""A file of rows that is written part by part: complete or not there, and a killed run resumes where it stopped."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from hf_reward_ext.base.saving.atomic import check_target, naming_file, replace_file, replace_text
from hf_reward_ext.base.saving.parts import Parts, describe_changes
from hf_reward_ext.best_of_n.joining import join_arrow, join_lines

_FORMAT = "hf_reward_ext rows 1"


class ResumableWriter:
    """
    Collects rows in parts beside the file and joins them when all are there.

    Nothing of a file that is there changes before the new one is whole on the disk. Beside the finished file,
    `<name>.info.json` holds what it was made with, its size and its hash; the folder `<name>.parts` is gone then. One
    process writes a file at a time; a second one is refused.

    Args:
        path (`str` or `Path`): `*.jsonl`, or `*.arrow` for `Dataset.from_file`.
        settings (`dict`): What the rows depend on beside the inputs of each part; fit for JSON. Another run may only
            resume with the same.
        overwrite (`bool`, *optional*, defaults to `False`): Whether a file of that name is replaced when the new one is
            whole. Parts of the same settings are resumed all the same.

    Raises:
        ValueError: If the file's name ends otherwise; the file is there and not ours, or not as it was written, or made
            with other settings; or its name or that of its description or parts is taken by something else.

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
            raise ValueError(f"`path={str(path)!r}` was given, but rows go to '*.jsonl' or '*.arrow'. Name it so.")
        self.info = self.path.with_name(self.path.name + ".info.json")
        check_target(self.path)
        self._parts = Parts(self.path, settings, overwrite)
        self._finished = self._read_finished(overwrite)

    @property
    def parts(self) -> Path:
        """The folder of unfinished parts."""
        return self._parts.folder

    @property
    def settings(self) -> dict[str, Any]:
        """What the rows depend on beside the inputs."""
        return self._parts.settings

    @property
    def is_finished(self) -> bool:
        """Whether the file is whole and of these settings."""
        return self._finished is not None

    def __enter__(self) -> Self:
        if not self.is_finished:
            self._parts.lock()
        return self

    def __exit__(self, *_) -> None:
        self._parts.close()

    def has(self, number: int, inputs: Sequence) -> bool:
        """
        Whether a part is written already; parts are asked for in order.

        Args:
            number (`int`): Its number.
            inputs (`list`): What its rows are made of; fit for JSON.

        Raises:
            ValueError: If the part that is there was made of other inputs or with other settings, or is broken.
            RuntimeError: If another process writes the file.
        """
        if self._finished is None:
            return self._parts.has(number, inputs)
        if self._finished["parts"][number : number + 1] != [self._parts.ask(number, inputs)]:
            raise ValueError(
                f"Part {number} in {self.path} was made of other prompts or with other settings, so this run cannot "
                f"resume from it. Use the data of before, start afresh (`overwrite`), or choose another path."
            )
        return True

    def write(self, number: int, inputs: Sequence, rows: Sequence[dict]) -> None:
        """
        Writes a part, which may have no rows.

        Raises:
            TypeError, ValueError: If a row holds what JSON and Arrow cannot both hold; the place is named.
            OSError: If it cannot be written.
        """
        self._parts.write(number, inputs, rows)

    def finish(self) -> Path:
        """
        Joins the parts that were asked for or written, and returns the path.

        Raises:
            ValueError: If no part has a row, or the finished file has more parts.
        """
        if self._finished is not None:
            self._check_number(self._finished)
            self._parts.remove()  # what is left where a run was killed while it did so
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
        # Noted before the file has its name: by it a run that was killed in between recognizes the file as ours.
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
        """What is recorded of the file, if it is finished and may stay."""
        recorded = _read_info(self.info)
        if self.info.exists() and recorded is None:
            raise ValueError(
                f"{str(self.info)!r} must be free for what is recorded of the file, but it is there and not ours. "
                "Rename it, or choose another path."
            )
        if not self.path.exists():
            return None
        noted = _read_info(self._note)
        if recorded is not None and _is_described(self.path, recorded):
            changed = describe_changes(recorded["settings"], self.settings)
            if not changed and (not overwrite or noted is not None):  # noted: killed while the parts were deleted
                return recorded
            if not overwrite:
                raise ValueError(
                    f"{self.path} was made of other prompts or with other settings ({changed}). Use the settings of "
                    "before, start afresh (`overwrite`), or choose another path."
                )
        elif noted is not None and _is_described(self.path, noted):
            return None  # killed after the file got its name: all parts are still there
        elif recorded is None and not overwrite:
            raise ValueError(
                f"{self.path} is there, but it was not written by this. Delete it, choose another path, or replace it "
                "(`overwrite`)."
            )
        elif not overwrite:
            raise ValueError(
                f"{self.path} has {self.path.stat().st_size} bytes, but {recorded['num_rows']} rows of "
                f"{recorded['size']} bytes were written; it was cut or changed. Delete it, or make it again "
                "(`overwrite`)."
            )
        return None

    def _check_number(self, finished: dict) -> None:
        if len(finished["parts"]) != len(self._parts.digests):
            raise ValueError(
                f"{self.path} was made of {len(finished['parts'])} parts, but {len(self._parts.digests)} were asked "
                "for. Use the data of before, start afresh (`overwrite`), or choose another path."
            )


def _read_info(path: Path) -> dict | None:
    """What is recorded in a file of ours; `None` if it is missing or not ours."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) and info.get("format") == _FORMAT else None


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _is_described(path: Path, info: dict) -> bool:
    return path.stat().st_size == info["size"] and _describe(path) == {key: info[key] for key in ("size", "sha256")}
