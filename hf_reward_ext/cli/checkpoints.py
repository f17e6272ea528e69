"""Complete training checkpoints, and the newest of them."""

import json
import logging
import re
import zipfile
from pathlib import Path

from hf_reward_ext.cli.folders import is_whole

logger = logging.getLogger(__name__)
STATE = "trainer_state.json"  # written last


def find_checkpoint(output_dir: str | Path, given: str | None) -> str | None:
    """
    Return the checkpoint of `--resume_from_checkpoint`.

    Args:
        output_dir (`str` or `Path`): Output folder of the training.
        given (`str`, *optional*): Value of the option: a folder, or `last` (or `true`) for the newest complete
            checkpoint.

    Returns:
        Path of the checkpoint, or `None` without the option.

    Raises:
        FileNotFoundError: If the folder or any checkpoint is missing.
        ValueError: If the checkpoint, or every checkpoint, is broken.
    """
    if given is None or str(given).lower() in ("false", "none"):
        return None
    checkpoints = _checkpoints(output_dir)
    if str(given).lower() in ("true", "last"):
        return _newest(output_dir, given, checkpoints)
    if not Path(given).is_dir():
        raise FileNotFoundError(
            f"`--resume_from_checkpoint` must be a folder, but there is no {given}. Pass a checkpoint, or `last`."
        )
    flaw = find_flaw(Path(given))
    if flaw is not None:
        whole = next((str(path) for path in checkpoints if find_flaw(path) is None), None)
        remedy = f"Resume from {whole!r}." if whole else "Leave the option out to start again."
        raise ValueError(f"`--resume_from_checkpoint {given}` must be a complete checkpoint, but {flaw}. {remedy}")
    return str(given)


def find_flaw(path: Path) -> str | None:
    """
    Return a description of a flaw of a checkpoint; `None` if it is complete.

    Args:
        path (`Path`): Folder of the checkpoint.
    """
    try:
        json.loads((path / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"it has no {STATE}, which is written last"
    except ValueError:
        return f"its {STATE} is cut"
    weights = sorted(path.rglob("*.safetensors"))
    if not weights:
        return "it has no weights"
    for file in weights:
        if not is_whole(file):
            return f"its {file.name} is cut"
    for index in path.glob("*.safetensors.index.json"):
        missing = _missing_shards(index)
        if missing:
            return f"its {missing} is missing"
    for file in [*path.glob("*.pt"), *path.glob("*.pth")]:
        if not zipfile.is_zipfile(file):  # torch writes the table of contents last
            return f"its {file.name} is cut"
    return None


def _missing_shards(index: Path) -> str | None:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError):
        return index.name
    return next((name for name in sorted(names) if not (index.parent / name).is_file()), None)


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """Return the checkpoint folders, the newest first."""
    numbered = [
        (int(match[1]), path)
        for path in Path(output_dir).glob("checkpoint-*")
        if path.is_dir() and (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def _newest(output_dir: str | Path, given: str, checkpoints: list[Path]) -> str:
    if not checkpoints:
        raise FileNotFoundError(
            f"`--resume_from_checkpoint {given}` must find a checkpoint, but {str(output_dir)!r} has none. Leave it "
            "out to start again."
        )
    for path in checkpoints:
        flaw = find_flaw(path)
        if flaw is None:
            return str(path)
        logger.warning("%s is skipped, because %s: its training was stopped while it was saved.", path, flaw)
    raise ValueError(
        f"`--resume_from_checkpoint {given}` must find a complete checkpoint, but each of the {len(checkpoints)} in "
        f"{str(output_dir)!r} is broken. Leave it out to start again."
    )
