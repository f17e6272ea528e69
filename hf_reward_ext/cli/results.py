"""Files of an evaluation, written together at the end, from scores that survive a killed run."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from transformers import set_seed

from hf_reward_ext.base.saving.atomic import naming_file, replace_file, replace_text
from hf_reward_ext.base.saving.json_values import digest
from hf_reward_ext.base.saving.parts import Parts
from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.scoring.scorer import Scorer

_SECONDS = 1.0  # maximum work in seconds that a killed run loses, in addition to the current batch


class ResultFiles:
    """
    Files of one evaluation, which are written only when all of them are complete.

    The report (`"output"`) records the settings and the hashes of the other files, by which the same command
    recognizes its files.

    Args:
        paths (`dict` from `str` to `Path`): Files by name.
        settings (`dict`): Settings that the results depend on.
        overwrite (`bool`): Whether to replace existing files.

    Raises:
        ValueError: If a file exists that this command did not write.
        RuntimeError: If another process writes the first one.
    """

    def __init__(self, paths: Mapping[str, Path], settings: dict[str, Any], overwrite: bool):
        self.paths = dict(paths)
        self.settings = json.loads(json.dumps(settings))
        self._parts = Parts(next(iter(paths.values())), settings, overwrite) if paths else None
        self._scores: KeptScores | None = None
        recorded = self._recorded()
        own = self._own(recorded)
        for name, path in self.paths.items():
            if path.exists() and not overwrite and _hash(path.read_bytes()) not in own:
                raise ValueError(
                    f"`--{name}` must be a new file, but {str(path)!r} exists and was not written by this command. "
                    "Choose another name, or replace it with --overwrite."
                )
        others = [path for name, path in self.paths.items() if name != "output"]
        has_all = bool(recorded) and all(path.exists() and _hash(path.read_bytes()) in own for path in others)
        self.finished = recorded if has_all and not overwrite and not self._is_resumed() else None
        """Return the report of an earlier run of the same command, if all files exist."""

    def __enter__(self) -> Self:
        if self._parts is not None and self.finished is None:
            self._parts.lock()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._scores is not None:
            self._scores.flush()
        if self._parts is not None:
            self._parts.close()

    def resume(self, scorer: Scorer | PairScorer, seed: int) -> Scorer | PairScorer:
        """Return the scorer with the scores of an earlier run; each call has its own seed."""
        self._scores = kept = KeptScores(self._parts, seed)
        if isinstance(scorer, PairScorer):
            return _KeptPairScorer(scorer, kept)
        return Scorer(
            lambda prompts, completions: kept.call(scorer, prompts, completions),
            name=scorer.__name__,
            parts=[scorer],
        )

    def write(self, report: dict, contents: Mapping[str, str | Callable[[Path], object]]) -> dict:
        """
        Write all files, the report last.

        Args:
            report (`dict`): Numbers of the report.
            contents (`dict`): Contents of the other files: text, or a function that writes a file.

        Returns:
            Report with `settings`, `files` and `digest`.
        """
        if self._parts is None:
            return report
        if self._scores is not None:
            self._scores.flush()
        with naming_file(self._parts.folder):
            self._parts.folder.mkdir(exist_ok=True)
        data = {name: self._bytes(path, contents[name]) for name, path in self.paths.items() if name != "output"}
        report = {**report, "settings": self.settings, "files": {name: _hash(held) for name, held in data.items()}}
        report["digest"] = digest(report)
        if "output" in self.paths:
            data["output"] = (json.dumps(report, indent=1) + "\n").encode()
        note = {"files": [_hash(held) for held in data.values()], "num_parts": len(self._part_files())}
        replace_text(self._note, json.dumps(note), self._note.with_suffix(".tmp"))
        for name, held in data.items():
            self.paths[name].parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.paths[name], lambda draft, held=held: draft.write_bytes(held))
        return report

    def finish(self) -> None:
        """Delete the stored scores when all files are written."""
        if self._parts is not None:
            self._parts.remove()

    def _bytes(self, path: Path, content: str | Callable[[Path], object]) -> bytes:
        if isinstance(content, str):
            return content.encode()
        draft = self._folder / f"result.draft{path.suffix}"
        replace_file(draft, content, self._folder / f"result.new{path.suffix}")
        return draft.read_bytes()

    @property
    def _folder(self) -> Path:
        first = next(iter(self.paths.values()))
        return first.with_name(f"{first.name}.parts")

    @property
    def _note(self) -> Path:
        return self._folder / "result.note.json"

    def _part_files(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.json"))

    def _noted(self) -> dict | None:
        try:
            return json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _own(self, recorded: dict | None) -> set[str]:
        """Return the hashes of files that this command has written."""
        own = set(recorded["files"].values()) if recorded else set()
        if recorded:
            own.add(_hash(self.paths["output"].read_bytes()))
        noted = self._noted() if self._parts is not None else None
        return own | set(noted["files"] if noted else ())

    def _is_resumed(self) -> bool:
        """Return whether there are stored scores of a killed run."""
        noted = self._noted() if self._parts is not None else None
        return noted is not None and len(self._part_files()) >= noted["num_parts"] > 0

    def _recorded(self) -> dict | None:
        """Return the existing report, if it is complete and has the same settings."""
        try:
            report = json.loads(self.paths["output"].read_text(encoding="utf-8"))
            found = report.pop("digest")
        except (KeyError, OSError, ValueError, AttributeError, TypeError):
            return None
        is_own = found == digest(report) and report.get("settings") == self.settings
        return {**report, "digest": found} if is_own else None


class KeptScores:
    """
    Results of calls in order, stored in parts.

    Args:
        parts ([`Parts`], *optional*): Parts in which they are stored.
        seed (`int`): Random seed of the first call; each later call uses the next one.

    Raises:
        ValueError: If the texts of a call differ from the run that is resumed.
    """

    def __init__(self, parts: Parts | None, seed: int):
        self._parts, self._seed = parts, seed
        self._kept: list[dict] = []
        self._number = 0
        while parts is not None and parts.has(self._number, []):
            self._kept += parts.rows(self._number)
            self._number += 1
        self._pending: list[dict] = []
        self._calls = 0
        self._last = time.monotonic()

    def call(self, compute: Callable, *columns: Sequence) -> list:
        """Return the result of `compute(*columns)`, read or computed."""
        number, inputs = self._calls, digest([str(column) for column in columns])
        self._calls += 1
        if number < len(self._kept):
            if self._kept[number]["inputs"] != inputs:
                raise ValueError(
                    f"Call {number} of the run that is resumed scored other texts. Use the earlier data, or start "
                    "again with --overwrite."
                )
            return self._kept[number]["values"]
        set_seed((self._seed + number) % 2**32)
        values = list(compute(*columns))
        self._pending.append({"inputs": inputs, "values": values})
        if time.monotonic() - self._last > _SECONDS:
            self.flush()
        return values

    def flush(self) -> None:
        """Write the results since the last part."""
        if self._parts is not None and self._pending:
            self._parts.write(self._number, [], self._pending)
            self._number += 1
            self._pending = []
        self._last = time.monotonic()


class _KeptPairScorer(PairScorer):
    """Pairwise judge with stored answers."""

    def __init__(self, scorer: PairScorer, kept: KeptScores):
        super().__init__(scorer.log_odds)
        self.__name__ = scorer.__name__
        self._scorer, self._kept = scorer, kept

    def compare(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> np.ndarray:
        """Return log-odds as [`PairScorer.compare`] does."""
        return np.array(self._kept.call(self._compare, prompts, responses_a, responses_b), dtype=float)

    def check(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> None:
        """Raise the errors of the judge about its texts."""
        self._scorer.check(prompts, responses_a, responses_b)

    def _compare(self, *columns: Sequence) -> list:
        odds = self._scorer.compare(*columns)
        return [[None if np.isnan(value) else value for value in row] for row in odds.tolist()]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
