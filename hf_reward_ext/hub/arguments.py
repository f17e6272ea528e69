"""Arguments that `generate` passes to a repository's code, separated into those for loading and for decoding."""

from pathlib import Path
from typing import Any

_LOADING = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies")


def split_arguments(generate_arguments: dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split arguments into those of `from_pretrained`, which `generate` passes too, and others; `None` is dropped."""
    given = {name: value for name, value in generate_arguments.items() if value is not None}
    loading = {name: given.pop(name) for name in _LOADING if name in given}
    return loading, given


def check_place(place: str, part: str) -> None:
    """
    Reject a folder that does not exist any more, instead of looking it up on the Hub.

    Raises:
        ValueError: If `place` is a path without the part.
    """
    if Path(place).is_absolute() and not (Path(place) / part).is_dir():
        raise ValueError(
            f"This decoding was saved to {place!r} with the part {part!r}, but nothing is there: the folder was moved. "
            "Save it again in its final location, or upload it with `push_to_hub`."
        )
