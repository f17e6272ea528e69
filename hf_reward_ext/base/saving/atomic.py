"""A file is whole or missing: it is written beside its name, and moved there when it is on the disk."""

import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_file(path: str | Path, write: Callable[[Path], object], draft: Path | None = None) -> None:
    """
    Writes a file under another name and moves it to its own when it is whole.

    Args:
        path (`str` or `Path`): The file. What is there stays until the new file is on the disk.
        write (`callable`): Writes the file at the path that it gets, which has the same suffix.
        draft (`Path`, *optional*): That path, in the same file system. Default: a hidden name beside the file.

    Raises:
        OSError: If the file cannot be written; the message names it, and nothing of it is left.

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
    """Adds the file, and that nothing is lost, to the errors that writing it raises."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{str(path)!r} could not be written ({error.strerror or error}). Nothing that was there is lost: make "
            "room or allow writing, and give the same command again",
        ) from error


def replace_text(path: str | Path, text: str, draft: Path | None = None) -> None:
    """Writes a text file as [`replace_file`] does, in UTF-8."""
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"), draft)


def check_target(path: str | Path, name: str = "path") -> None:
    """
    Refuses a path where no file can be written, before any work.

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
    Refuses a folder that cannot be made or written to; nothing is left in it.

    Args:
        path (`str` or `Path`): The folder, which may be missing.
        name (`str`, *optional*): Name of the option, for messages.

    Raises:
        OSError: If a file is in its place, or writing is not allowed.
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
            f"`{name}` must be a place that can be written to, but {str(folder)!r} cannot ({error.strerror}). Choose "
            "another, or allow writing",
        ) from error


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
