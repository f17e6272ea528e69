"""The three sets of versions that the suite runs on, read from the repository's files."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def exact(name: str) -> dict[str, Version]:
    """Name and version of every package in `.ci/NAME.txt`."""
    lines = (ROOT / ".ci" / f"{name}.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def declared() -> dict[str, Requirement]:
    """The run-time dependencies of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(one.name): one for one in map(Requirement, project["dependencies"])}
