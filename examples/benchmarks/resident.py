"""Memory of this process in MiB. `ru_maxrss` will not do: a child starts with the peak of its parent."""

from pathlib import Path


def _mebibytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def resident() -> float:
    """What is held now."""
    return _mebibytes("VmRSS")


def peak_resident() -> float:
    """The most that was ever held."""
    return _mebibytes("VmHWM")
