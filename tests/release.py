"""Whether this checkout can be released; run by `make release-check`, after the documentation site was built."""

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from distributions import build, faults, metadata, names_of_sdist, names_of_wheel

ROOT = Path(__file__).parents[1]


def version_of(root: Path) -> str:
    """Version that the package declares."""
    tree = ast.parse((root / "hf_reward_ext" / "__init__.py").read_text(encoding="utf-8"))
    [value] = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    ]
    return ast.literal_eval(value)


def check_texts(root: Path, version: str) -> list[str]:
    """Return what changelog and citation lack: the version, and one date in both."""
    changelog = (root / "docs" / "changelog.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+)(?: \((\d{4}-\d\d-\d\d)\))?$", changelog, re.MULTILINE)
    found = []
    if heading is None or heading[1] != version:
        found.append(f"docs/changelog.md must begin with `## {version} (YYYY-MM-DD)`")
        return found
    if heading[2] is None:
        found.append(f"docs/changelog.md must have a date: `## {version} (YYYY-MM-DD)`")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    if f"\nversion: {version}\n" not in citation:
        found.append(f"CITATION.cff must have `version: {version}`")
    if heading[2] and f"\ndate-released: {heading[2]}\n" not in citation:
        found.append(f"CITATION.cff must have `date-released: {heading[2]}`")
    return found


def check_tag(root: Path, version: str) -> list[str]:
    """Return what git lacks: a clean checkout, and the tag of the version on its commit."""
    found = []
    if _git(root, "status", "--porcelain"):
        found.append("the checkout must be clean; commit or remove what `git status` shows")
    if f"v{version}" not in _git(root, "tag", "--points-at", "HEAD").split():
        found.append(f"the commit must have the tag v{version}: `git tag v{version}`")
    return found


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Print what is missing, and the contents of the distributions."""
    version = version_of(ROOT)
    found = check_texts(ROOT, version) + check_tag(ROOT, version)
    with tempfile.TemporaryDirectory() as folder:
        sdist, wheel = build(ROOT, Path(folder))
        found += faults(ROOT, sdist, wheel)
        if metadata(wheel)["Version"] != version:
            found.append(f"the wheel must have the version {version}, got {metadata(wheel)['Version']}")
        for path, names in ((wheel, names_of_wheel(wheel)), (sdist, names_of_sdist(sdist))):
            print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e6:.2f} MB")
    for one in found:
        print(f"release: {one}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
