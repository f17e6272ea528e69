"""Wheel and source distribution: their contents, the commands of an installed wheel, and the release check."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import release
from distributions import build, faults, metadata
from packaging.requirements import Requirement

from hf_reward_ext import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    pytest.importorskip("packaging.licenses", reason="setuptools builds with packaging of at least 24.2 here")
    return build(ROOT, tmp_path_factory.mktemp("distributions"))


def test_distributions_have_the_package_and_nothing_else(distributions, tmp_path):
    sdist, wheel = distributions
    assert faults(ROOT, sdist, wheel) == []
    about = metadata(wheel)
    assert about["Version"] == __version__ and "Typing :: Typed" in about.get_all("Classifier")
    assert {one.partition(",")[0] for one in about.get_all("Project-URL")} >= {"Homepage", "Documentation", "Issues"}
    links = re.findall(r"\]\(([^)]+)\)", about.get_payload())
    assert len(links) > 20 and all(link.startswith(("https://", "#")) for link in links)
    with zipfile.ZipFile(wheel, "a") as changed:  # what is checked is seen
        changed.writestr("tests/fixtures/x.json", "{}")
        changed.writestr("hf_reward_ext/data.jsonl", "{}")
    assert faults(ROOT, sdist, wheel) == [
        "the wheel has hf_reward_ext/data.jsonl",
        "the wheel has tests/fixtures/x.json",
    ]


def test_the_installed_wheel_runs_its_commands(distributions, tmp_path):
    _, wheel = distributions
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    script = str(tmp_path / "site" / "bin" / "hf-reward-ext")
    assert "usage: hf-reward-ext demo" in run(sys.executable, script, "demo", "--help")
    assert run(sys.executable, "-m", "hf_reward_ext", "--version").strip() == __version__
    code = "import sys; sys.argv[0] = 'hf-reward-ext'; import hf_reward_ext; print(hf_reward_ext.__file__)"
    assert run(sys.executable, "-c", code).strip() == str(tmp_path / "site" / "hf_reward_ext" / "__init__.py")


def test_extras_are_described_where_users_look():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    for extra, requirements in PROJECT["optional-dependencies"].items():
        assert f"`{extra}`" in page, extra
        for name in map(str, (Requirement(one).name for one in requirements)):
            assert name in page, f"{extra} needs {name}"


@pytest.fixture
def checkout(tmp_path):
    """A repository that can be released."""
    for name, text in {
        "hf_reward_ext/__init__.py": '__version__ = "1.2.3"\n',
        "docs/changelog.md": "# Changelog\n\n## 1.2.3 (2026-12-01)\n\n* News.\n\n## 1.2.2 (2026-11-01)\n",
        "CITATION.cff": "cff-version: 1.2.0\nversion: 1.2.3\ndate-released: 2026-12-01\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"], ["tag", "v1.2.3"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    return tmp_path


def problems(root: Path) -> list[str]:
    version = release.version_of(root)
    return release.check_texts(root, version) + release.check_tag(root, version)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("hf_reward_ext/__init__.py", "1.2.3", "1.2.4", "must begin with `## 1.2.4"),
        ("hf_reward_ext/__init__.py", "1.2.3", "1.2.4", "must have the tag v1.2.4"),
        ("docs/changelog.md", " (2026-12-01)", "", "must have a date"),
        ("docs/changelog.md", "2026-12-01", "2026-12-02", "must have `date-released: 2026-12-02`"),
        ("CITATION.cff", "version: 1.2.3", "version: 1.2.2", "must have `version: 1.2.3`"),
        ("CITATION.cff", "cff", "cff", ""),
        ("new.txt", "", "x", "must be clean"),
    ],
)
def test_a_release_is_refused_for(checkout, file, old, new, message):
    path = checkout / file
    path.write_text((path.read_text() if path.exists() else "").replace(old, new, 1))
    found = problems(checkout)
    assert any(message in one for one in found) if message else found == []
