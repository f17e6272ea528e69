"""Checks and errors of a full or read-only disk in training."""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

_OF_A_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)  # of writing only
# Errors of safetensors, tokenizers (a plain `Exception`) and `torch.save` for files that cannot be written.
_BROKEN_FILE = re.compile(
    rf"\(os error ({'|'.join(map(str, _OF_A_DISK))})\)|PytorchStreamWriter|inline_container|iostream error"
)


def check_room(model: nn.Module, folder: str | Path) -> None:
    """
    Raise an error before training if the disk has no space for the trained weights.

    Args:
        model (`nn.Module`): Model to train.
        folder (`str` or `Path`): Output folder, which may be missing.

    Raises:
        OSError: If there is less space than the trained weights need.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    needed = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"`output_dir` must have room for the trained weights, of {needed / 2**20:,.1f} MiB, but {str(place)!r} "
            f"has {free / 2**20:,.1f} MiB left. Make room, or choose another folder",
        )


@contextmanager
def naming_folder(folder: str | Path) -> Iterator[None]:
    """
    Add the folder and the remedy to errors raised while a training saves.

    Args:
        folder (`str` or `Path`): `output_dir` of the training.
    """
    try:
        yield
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code not in _OF_A_DISK and not _BROKEN_FILE.search(str(error)):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OSError(
            code or errno.ENOSPC,
            f"The training could not be saved in {str(folder)!r} ({reason}). Checkpoints of earlier steps are whole: "
            "make room or allow writing, and resume from the newest one (`resume_from_checkpoint`), or start again if "
            "there is none",
        ) from error
