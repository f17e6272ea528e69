"""Names of models that can only be local paths."""

from pathlib import Path


def is_path(name: str) -> bool:
    """
    Return whether a name can only be a local path, and not `OWNER/NAME` on the Hub.

    Example:
    ```python
    >>> is_path("./head"), is_path("Qwen/Qwen3-0.6B")
    (True, False)
    ```
    """
    return Path(name).expanduser().exists() or not _may_be_on_hub(name) or Path(name.partition("/")[0]).is_dir()


def check_path(name: str | Path) -> None:
    """
    Reject a path without a folder, which transformers would look for on the Hub.

    Args:
        name (`str` or `Path`): Folder or name on the Hub.

    Raises:
        FileNotFoundError: If it can only be a path, and there is no folder.
    """
    if not Path(name).is_dir() and not _may_be_on_hub(str(name)):
        raise FileNotFoundError(
            f"{str(name)!r} must be a folder or OWNER/NAME on the Hub, but there is no such folder. Train or save the "
            "model first, or check the path."
        )


def _may_be_on_hub(name: str) -> bool:
    owner, _, rest = name.partition("/")
    is_path = Path(name).expanduser().is_absolute() or owner in ("", ".", "..", "~") or "/" in rest
    return not is_path or "://" in name
