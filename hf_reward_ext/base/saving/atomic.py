"""Atomic writes: a file is written under a temporary name and renamed once it is complete on disk."""

import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_file(path: str | Path, write: Callable[[Path], object], draft: Path | None = None) -> None:
    """
    Write a file under a temporary name and rename it once it is complete.

    Args:
        path (`str` or `Path`): Path of the file. An existing file is kept until the new one is on disk.
        write (`callable`): Function that writes the file to a given path, which has the same suffix.
        draft (`Path`, *optional*): Temporary path, in the same file system. Default: a hidden name in the same folder.

    Raises:
        OSError: If the file cannot be written; the message names it, and no partial file is left.

    Example:
    ```python
    >>> replace_file("results.json", lambda draft: draft.write_text("{}", encoding="utf-8"))
    ```
    """
    target = Path(path)
    draft = draft or target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    with naming_file(target):
        try:
            write(draft)
            _sync(draft)
            os.replace(draft, target)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise


@contextmanager
def naming_file(path: str | Path):
    """Add the name of the file, and that nothing is lost, to errors raised while writing it."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{str(path)!r} could not be written ({error.strerror or error}). Nothing that was there is lost: make "
            "room or allow writing, and give the same command again",
        ) from error


def replace_text(path: str | Path, text: str, draft: Path | None = None) -> None:
    """Write a text file as [`replace_file`] does, in UTF-8."""
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"), draft)


def check_target(path: str | Path, name: str = "path") -> None:
    """
    Reject a path where no file can be written, before any work.

    Args:
        path (`str` or `Path`): The path of a file to write.
        name (`str`, *optional*): Name of the option, for messages.

    Raises:
        ValueError: If a folder or a link has that name.
        OSError: If its folder cannot be written to.
    """
    path = Path(path)
    if path.is_symlink():
        raise ValueError(f"`{name}` must be a file, got the link {str(path)!r}. Give the file that it points to.")
    if path.exists() and not path.is_file():
        raise ValueError(f"`{name}` must be a file, but {str(path)!r} is a folder. Give a file in it.")
    check_folder(path.parent, name)


def check_folder(path: str | Path, name: str = "path") -> None:
    """
    Reject a folder that cannot be created or written to; the check leaves no file in it.

    Args:
        path (`str` or `Path`): The folder, which may be missing.
        name (`str`, *optional*): Name of the option, for messages.

    Raises:
        OSError: If a file has its name, or writing is not allowed.
    """
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"`{name}` must be a place where files can be written, but none can be in {str(folder)!r} "
            f"({error.strerror}). Choose another, or allow writing",
        ) from error


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
