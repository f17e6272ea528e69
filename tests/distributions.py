"""Source distribution and wheel of a checkout, built as `python -m build --no-isolation` does, and their contents."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

MOST_BYTES = 4_000_000
LOCAL = (".git", ".venv*", ".*_cache", "__pycache__", "*.egg-info", "build", "dist", "outputs", "out", "shared")
_BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, f'build_{sys.argv[1]}')(sys.argv[2]))"
# First folders of what a distribution may have besides files at its root.
_IN_SDIST = {"hf_reward_ext", "hf_reward_ext.egg-info", "docs"}


def build(root: Path, folder: Path) -> tuple[Path, Path]:
    """Build the source distribution of a copy of `root`, and the wheel from what it has."""
    shutil.copytree(root, folder / "checkout", ignore=shutil.ignore_patterns(*LOCAL))
    sdist = _build("sdist", folder / "checkout", folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    return sdist, _build("wheel", unpacked, folder)


def _build(kind: str, source: Path, folder: Path) -> Path:
    run = subprocess.run([sys.executable, "-c", _BUILD, kind, str(folder)], cwd=source, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"The {kind} must build, but it does not:\n{run.stderr}")
    return folder / run.stdout.splitlines()[-1]


def names_of_sdist(path: Path) -> list[str]:
    """Files of a source distribution, without the folder that holds them all."""
    with tarfile.open(path) as archive:
        return sorted(one.name.partition("/")[2] for one in archive if one.isfile())


def names_of_wheel(path: Path) -> list[str]:
    """Files of a wheel."""
    return sorted(zipfile.ZipFile(path).namelist())


def metadata(wheel: Path) -> Message:
    """Metadata of a wheel, with the README as its payload."""
    [name] = [name for name in names_of_wheel(wheel) if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(zipfile.ZipFile(wheel).read(name))


def faults(root: Path, sdist: Path, wheel: Path) -> list[str]:
    """What keeps the distributions from being published: files too many or missing, size, links of the README."""
    package = root / "hf_reward_ext"
    files = {
        str(path.relative_to(root))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    in_wheel, in_sdist = set(names_of_wheel(wheel)), set(names_of_sdist(sdist))
    info = {name for name in in_wheel if name.split("/")[0].endswith(".dist-info")}
    found = [f"the wheel lacks {name}" for name in sorted(files - in_wheel)]
    found += [f"the wheel has {name}" for name in sorted(in_wheel - files - info)]
    found += [f"the sdist lacks {name}" for name in sorted((files | {"pyproject.toml", "README.md"}) - in_sdist)]
    found += [
        f"the sdist has {name}" for name in sorted(in_sdist) if "/" in name and name.split("/")[0] not in _IN_SDIST
    ]
    found += [
        f"{path.name} has {path.stat().st_size} bytes, more than {MOST_BYTES}"
        for path in (sdist, wheel)
        if path.stat().st_size > MOST_BYTES
    ]
    if not any(name.endswith("/licenses/LICENSE") for name in info):
        found.append("the wheel lacks the license")
    if "](docs/" in metadata(wheel).get_payload():
        found.append("the README of the wheel has links into the checkout")
    return found
