"""A file of rows that is written part by part: complete or not there, and a killed run goes on where it stopped."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_reward_ext.best_of_n.joining import join_arrow, join_lines


class ResumableWriter:
    """
    Collects rows in parts beside the file and joins them when all are there.

    Each part is written under another name and then renamed, so that it is whole or missing. Beside the finished
    file, `<name>.info.json` says what it was made with; the folder `<name>.parts` is gone then. One process writes a
    file at a time.

    Args:
        path (`str` or `Path`): `*.jsonl`, or `*.arrow` for `Dataset.from_file`.
        settings (`dict`): What the rows depend on beside the inputs of each part; fit for JSON. Another run may only
            go on with the same.

    Raises:
        ValueError: If the file's name ends otherwise, or the file is there and not ours.

    Example:
    ```python
    >>> writer = ResumableWriter("rows.jsonl", {"seed": 0})
    >>> for number, prompts in enumerate(parts):
    ...     if not writer.has(number, prompts):
    ...         writer.write(number, prompts, rows_of(prompts))
    >>> writer.finish()
    ```
    """

    def __init__(self, path: str | Path, settings: dict):
        self.path = Path(path)
        if self.path.suffix not in (".jsonl", ".arrow"):
            raise ValueError(f"`path={str(path)!r}` was given, but rows go to '*.jsonl' or '*.arrow'. Name it so.")
        self.parts = self.path.with_name(self.path.name + ".parts")
        self.info = self.path.with_name(self.path.name + ".info.json")
        self.settings = settings
        self._digests: list[str] = []
        if not self.path.exists():
            self.info.unlink(missing_ok=True)  # the file was deleted: make it again
        if self.path.exists() and not self.info.exists() and not self.parts.exists():
            raise ValueError(
                f"{self.path} is there, but it was not written by this. Delete it, or choose another path."
            )

    def has(self, number: int, inputs: Sequence) -> bool:
        """
        Whether a part is written already; parts are asked for in order.

        Args:
            number (`int`): Of the part.
            inputs (`list`): What its rows are made of, fit for JSON.

        Raises:
            ValueError: If the part that is there was made of other inputs or with other settings.
        """
        self._digests[number:] = [_digest([self.settings, list(inputs)])]
        if self.info.exists():
            self._check(self._finished()["parts"][number : number + 1], number, self.info)
            return True
        part = self._part(number)
        if not part.exists():
            return False
        self._check([json.loads(part.read_text())["digest"]], number, self.parts)
        return True

    def write(self, number: int, inputs: Sequence, rows: Sequence[dict]) -> None:
        """Writes a part, which may have no rows."""
        self.parts.mkdir(parents=True, exist_ok=True)
        digest = _digest([self.settings, list(inputs)])
        self._digests[number:] = [digest]
        _replace(self._part(number), json.dumps({"digest": digest, "rows": list(rows)}))

    def finish(self) -> Path:
        """
        Joins the parts that were asked for or written, and returns the path.

        Raises:
            ValueError: If no part has a row, or the finished file has more parts.
        """
        if self.info.exists():
            if len(self._finished()["parts"]) != len(self._digests):
                raise ValueError(
                    f"{self.path} was made of {len(self._finished()['parts'])} parts, but {len(self._digests)} were "
                    f"asked for. Delete it and {self.info.name}, or choose another path."
                )
            shutil.rmtree(self.parts, ignore_errors=True)
            return self.path
        draft = self.path.with_name(self.path.name + ".tmp")
        count = (join_arrow if self.path.suffix == ".arrow" else join_lines)(self._rows(), draft)
        if count == 0:
            draft.unlink(missing_ok=True)
            raise ValueError(
                f"None of the {len(self._digests)} parts has a row, so there is nothing to write. Loosen what makes a "
                f"row, such as `min_margin`, and delete {self.parts}."
            )
        os.replace(draft, self.path)
        _replace(
            self.info, json.dumps({"settings": self.settings, "num_rows": count, "parts": self._digests}, indent=1)
        )
        shutil.rmtree(self.parts)
        return self.path

    def _rows(self) -> Iterator[list[dict]]:
        for number in range(len(self._digests)):
            rows = json.loads(self._part(number).read_text())["rows"]
            if rows:
                yield rows

    def _part(self, number: int) -> Path:
        return self.parts / f"part-{number:06d}.json"

    def _finished(self) -> dict:
        return json.loads(self.info.read_text())

    def _check(self, digests: list[str], number: int, where: Path) -> None:
        if digests != self._digests[number : number + 1]:
            raise ValueError(
                f"Part {number} in {where} was made of other prompts or with other settings, so this run cannot go on "
                f"from it. Use the settings of before, or delete {where} and the file, or choose another path."
            )


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
