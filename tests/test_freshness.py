"""
Is there a release that the newest tested set does not have? Run by `make freshness`, skipped without a package index.

A release beyond a constraint of this machine's pip cannot be installed here, so it does not count.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from versions import exact

LISTING = "torch (2.15.0)\nAvailable versions: 2.15.0, 2.14.1, 2.13.0+cpu, 2.13.0\n"


def pip(*arguments: str) -> str:
    run = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"no package index: {run.stderr.strip().splitlines()[-1]}")
    return run.stdout


def releases(listing: str) -> set[Version]:
    """From what `pip index versions` prints; it leaves out pre-releases."""
    (line,) = [line for line in listing.splitlines() if line.startswith("Available versions: ")]
    return {Version(Version(one).public) for one in line.removeprefix("Available versions: ").split(", ")}


def constraints(config: str) -> dict[str, Requirement]:
    """From what `pip config list` prints."""
    paths = [line.partition("=")[2].strip("'\"").split() for line in config.splitlines() if "constraint=" in line]
    lines = [line for path in sum(paths, []) for line in Path(path).read_text().splitlines()]
    found = map(Requirement, (line for line in lines if line and not line.startswith(("#", "-"))))
    return {canonicalize_name(one.name): one for one in found}


def newer(name: str, listing: str, config: str, tested: Version) -> set[Version]:
    """Releases beyond the tested one that this machine's pip would install."""
    cap = constraints(config).get(canonicalize_name(name))
    return {one for one in releases(listing) if one > tested and (cap is None or one in cap.specifier)}


@pytest.mark.parametrize(("tested", "capped", "found"), [
    ("2.13.0", "", {"2.14.1", "2.15.0"}),
    ("2.13.0", "torch<=2.14.1", {"2.14.1"}),
    ("2.14.1", "torch<=2.14.1", set()),
    ("2.14.1", "torchvision<=0.29", {"2.15.0"}),
    ("2.15.0", "", set()),
])  # fmt: skip
def test_newer_releases_are_found_up_to_a_cap(tmp_path, tested, capped, found):
    (tmp_path / "caps.txt").write_text(f"# a comment\n{capped}\n")
    config = f":env:.timeout='9'\nglobal.constraint='{tmp_path / 'caps.txt'}'\n"
    assert newer("torch", LISTING, config, Version(tested)) == set(map(Version, found))


@pytest.mark.freshness
@pytest.mark.parametrize("name", ["transformers", "trl", "peft", "torch"])
def test_the_newest_tested_set_is_what_the_index_serves(name):
    found = newer(name, pip("index", "versions", name), pip("config", "list"), exact("newest")[name])
    assert not found, f"{name} {max(found)} is out. Run `make newest-versions test-newest`."
