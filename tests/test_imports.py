"""Who may import whom: layers that only look down, and no cycle, imports inside functions included."""

import ast
import importlib
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_reward_ext"
# Every layer may import those before it; the rooms of one line are peers and import none of each other.
LAYERS = [
    {"base.options", "base.plugins", "base.stats"},
    {"base.lm", "base.recent"},
    {"base.preference"},
    {"base.saving"},
    {"base.scoring"},
    {"base.training"},
    {"confidence", "genarm", "sla", "fast_slow", "elhsr"},
    {"rewards", "engines"},
    {"evaluation", "best_of_n", "hub", "checks", "serving", "viz"},
    {"callbacks"},
    {"demo"},
    {"cli"},
]
OUTSIDE = {None, "__main__", "registered"}  # the root: what registers everything, and what starts the command line
ROOMS = [room for layer in LAYERS for room in sorted(layer)]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imported(module: str) -> frozenset[str]:
    """Names of all modules that a module imports, also inside functions; of ours as deep as they are files."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                deep = f"{node.module}.{alias.name}"
                found.add(deep if deep in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found - {module})


def room_of(module: str) -> str | None:
    """`base.lm`, `genarm`, ...; `None` for the package itself and for what is not ours."""
    _, *parts = module.split(".")
    if not module.startswith("hf_reward_ext.") or parts == ["base"]:
        return None
    return ".".join(parts[:2]) if parts[0] == "base" else parts[0]


def modules_in(room: str) -> list[str]:
    return [module for module in MODULES if room_of(module) == room]


def test_every_room_has_its_layer():
    assert {room_of(module) for module in MODULES} - OUTSIDE <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_packages_import_only_lower_layers(room):
    height = next(number for number, layer in enumerate(LAYERS) if room in layer)
    below = {room, None}.union(*LAYERS[:height])
    for module in modules_in(room):
        upward = sorted(other for other in imported(module) if room_of(other) not in below)
        assert not upward, f"{module} imports {upward}"
        assert "hf_reward_ext" not in imported(module), f"{module} imports the whole package"


def test_no_module_is_reached_from_itself():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in sorted(imported(module) & MODULES.keys()):
            visit(other)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


@pytest.mark.parametrize(("files", "forbidden"), [
    (("model", "model_config", "decoding"), {"trl"}),
    (("losses", "token_rewards"), None),
])  # fmt: skip
def test_files_keep_to_their_role(files, forbidden):
    for module in (module for module in MODULES if module.split(".")[-1] in files):
        roots = {name.split(".")[0] for name in imported(module)}
        assert roots <= {"torch", "jaxtyping"} if forbidden is None else not roots & forbidden, module


def test_decoding_needs_no_trainer():
    for module in (module for module in MODULES if module.endswith(".decoding")):
        assert not [name for name in imported(module) if name.endswith((".trainer", ".trainer_config"))], module


def test_there_is_no_utils_file():
    assert not list(PACKAGE.rglob("utils.py"))


EXAMPLES = PACKAGE.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_what_examples_import_exists(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hf_reward_ext"):
            module = importlib.import_module(str(node.module))
            lacking = [one.name for one in node.names if not hasattr(module, one.name)
                       and f"{node.module}.{one.name}" not in MODULES]  # fmt: skip
            assert not lacking, f"{node.module} has no {lacking}"
