"""How the package opens and writes files."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_reward_ext"
FILES = sorted(PACKAGE.rglob("*.py"))


def calls(path):
    """(name of the function, call) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            yield getattr(node.func, "attr", None) or node.func.id, node


def opens_text(call):
    """Whether a call of something named `open` opens a text file: `open(path, "w")` or `path.open("w")`."""
    if ast.unparse(call.func) == "os.open":
        return False
    is_method = isinstance(call.func, ast.Attribute)
    modes = call.args[0 if is_method else 1 :]
    return len(modes) <= 1 and all(isinstance(mode, ast.Constant) and "b" not in str(mode.value) for mode in modes)


@pytest.mark.parametrize("name", ["open", "read_text", "write_text"])
def test_text_files_are_utf_8_whatever_the_locale(name):
    """`LC_ALL=C` and Windows have other defaults."""
    for path in FILES:
        for called, call in calls(path):
            if called == name and (name != "open" or opens_text(call)):
                assert any(keyword.arg == "encoding" for keyword in call.keywords), f"{path}: {ast.unparse(call)}"


def test_there_is_one_atomic_write():
    """Elsewhere a file gets its name by `replace_file`."""
    for path in FILES:
        if path.name not in ("atomic.py", "writer.py"):
            assert not {called for called, _ in calls(path)} & {"rename", "fsync"}, path
            assert "os.replace(" not in path.read_text(encoding="utf-8"), path
