"""JSON lines that appear under their name when they are complete, and go on after an interruption."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path


class RowFile:
    """
    One JSON line for each row of the input.

    Lines go to `NAME.HASH.part`, where the hash tells the options of the run; [`finish`] moves them to `NAME`. A run
    with the same options goes on behind the lines that are there.

    Args:
        path (`str` or `Path`): The file.
        settings (`dict`): Everything that the lines depend on.
        overwrite (`bool`, *optional*): Replace the file, and start afresh.
        batch_size (`int`, *optional*): Rows that are done together; a batch that is not whole is done again.

    Attributes:
        num_done (`int`): Rows of the input that need not be done again.

    Raises:
        FileExistsError: If the file is there, or an unfinished one of other options, and neither may be replaced.

    Example:
    ```python
    >>> with RowFile("out.jsonl", {"seed": 0}) as rows:
    ...     rows.write({"prompt": "2+2=", "completion": "4"})
    >>> rows.finish()
    ```
    """

    def __init__(self, path: str | Path, settings: dict, overwrite: bool = False, batch_size: int = 1):
        self.path = Path(path)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        self.part = self.path.with_name(f"{self.path.name}.{digest}.part")
        others = [part for part in self.path.parent.glob(f"{self.path.name}.*.part") if part != self.part]
        found = [one for one in (self.path, *others) if one.exists()]
        if found and not overwrite:
            raise FileExistsError(
                f"`--output {path}` was given, but {str(found[0])!r} is there"
                + (", from an unfinished run with other options" if found[0] != self.path else "")
                + ". Pass another name, or --overwrite."
            )
        self._leftovers = [*others, *([self.part] if overwrite else [])]
        self._batch_size = batch_size
        self.num_done = 0

    def __enter__(self) -> "RowFile":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in self._leftovers:
            leftover.unlink(missing_ok=True)
        if self.part.exists():
            self.num_done = _keep_whole_batches(self.part, self._batch_size)
        self._file = self.part.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def write(self, row: dict) -> None:
        """Writes the next row, at once."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def rows(self) -> Iterator[dict]:
        """All rows so far."""
        with self.part.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def finish(self, convert: Callable[[dict], dict | None] | None = None) -> int:
        """
        Puts the rows under their name.

        Args:
            convert (`callable`, *optional*): From what was written to what shall stand there; `None` leaves a row out.

        Returns:
            `int`: Rows in the file.
        """
        if convert is None:
            count = sum(1 for _ in self.rows())
            os.replace(self.part, self.path)
            return count
        converted = self.part.with_suffix(".converted")
        count = 0
        with converted.open("w", encoding="utf-8") as file:
            for row in filter(None, map(convert, self.rows())):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        os.replace(converted, self.path)
        self.part.unlink()
        return count


def _keep_whole_batches(path: Path, batch_size: int) -> int:
    """Cuts off what an interruption left of a line or batch; returns the number of lines that stay."""
    ends = [0]
    with path.open("r+b") as file:
        for line in file:
            if line.endswith(b"\n"):
                ends.append(ends[-1] + len(line))
        count = (len(ends) - 1) // batch_size * batch_size
        file.truncate(ends[count])
    return count
