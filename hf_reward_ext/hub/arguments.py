"""What `generate` hands to a repository's code, sorted into what loads and what decodes."""

from pathlib import Path
from typing import Any

_LOADING = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies")


def split_arguments(generate_arguments: dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments for `from_pretrained`, which `generate` hands on too, and those of decoding; `None` is left out."""
    given = {name: value for name, value in generate_arguments.items() if value is not None}
    loading = {name: given.pop(name) for name in _LOADING if name in given}
    return loading, given


def check_place(place: str, part: str) -> None:
    """
    Refuses a folder that is not there any more, in place of asking the Hub for it.

    Raises:
        ValueError: If `place` is a path without that part.
    """
    if Path(place).is_absolute() and not (Path(place) / part).is_dir():
        raise ValueError(
            f"This decoding was saved to {place!r} with the part {part!r}, but nothing is there: the folder was moved. "
            "Save it again where it is to stay, or upload it with `push_to_hub`."
        )
