"""Arguments that `generate` passes to a repository's code, separated into those for loading and for decoding."""

from pathlib import Path
from typing import Any

_LOADING = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies")


def split_arguments(generate_arguments: dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split arguments into those of `from_pretrained`, which `generate` passes too, and others; `None` is dropped."""
    given = {name: value for name, value in generate_arguments.items() if value is not None}
    loading = {name: given.pop(name) for name in _LOADING if name in given}
    return loading, given


def check_repository(path_or_repo: str, part: str) -> None:
    """
    Reject a folder that does not exist any more, instead of looking it up on the Hub.

    Raises:
        ValueError: If `path_or_repo` is a path without the part.
    """
    if Path(path_or_repo).is_absolute() and not (Path(path_or_repo) / part).is_dir():
        raise ValueError(
            f"This decoding was saved to {path_or_repo!r} with the part {part!r}, but nothing is there: the folder "
            "was moved. Save it again in its final location, or upload it with `push_to_hub`."
        )
