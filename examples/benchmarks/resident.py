"""Memory of this process in MiB, without `ru_maxrss`, because a child process inherits the peak of its parent."""

from pathlib import Path


def _mebibytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def resident() -> float:
    """Return the current resident memory."""
    return _mebibytes("VmRSS")


def peak_resident() -> float:
    """Return the peak resident memory."""
    return _mebibytes("VmHWM")
