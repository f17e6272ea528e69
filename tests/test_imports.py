"""Who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_reward_ext"
METHODS = {"genarm", "sla", "fast_slow", "elhsr"}
ABOVE = {"best_of_n", "evaluation", "callbacks", "checks", "hub", "demo", "cli"}
MAY_IMPORT = {
    "base": {"base"},
    **{method: {"base", method} for method in METHODS},
    **{part: {"base", *METHODS, *ABOVE} for part in ABOVE},
    "": {"base", *METHODS, *ABOVE},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """(module, is it at the top of the file) of every absolute import."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module, id(node) in top
        elif isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)


def part_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_import_only_what_stands_below_them(path):
    allowed = MAY_IMPORT[part_of(path)]
    for module, _ in imports(path):
        if module.startswith("hf_reward_ext."):
            assert module.split(".")[1] in allowed, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_keep_to_their_role(path):
    modules = [module for module, _ in imports(path)]
    if path.name in ("model.py", "model_config.py", "decoding.py"):
        assert not any(module.split(".")[0] == "trl" for module in modules)
    if path.name == "decoding.py":
        assert not any(module.endswith((".trainer", ".trainer_config")) for module in modules)
    if path.name in ("losses.py", "token_rewards.py"):
        assert {module.split(".")[0] for module in modules} <= {"torch", "jaxtyping"}


def test_there_is_no_utils_file():
    assert not list(PACKAGE.rglob("utils.py"))
