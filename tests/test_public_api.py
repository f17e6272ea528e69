import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hf_reward_ext

ROOT = Path(__file__).parents[1]
PACKAGES = """best_of_n callbacks checks confidence elhsr engines evaluation fast_slow genarm hub rewards serving sla
viz""".split()


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_of_a_package_is_on_its_api_page(name):
    package = importlib.import_module(f"hf_reward_ext.{name}")
    page = (ROOT / "docs" / "api" / f"{name}.md").read_text()
    for public in package.__all__:
        assert getattr(package, public).__doc__, public
        assert f"`{public}`" in page, f"{public} is missing in docs/api/{name}.md"


def test_the_root_has_the_names_of_every_day_each_from_where_it_is_documented():
    assert hf_reward_ext.__all__ == sorted(hf_reward_ext.__all__)
    assert len(hf_reward_ext.__all__) <= 42
    base = (ROOT / "docs" / "api" / "base.md").read_text()
    for name in hf_reward_ext.__all__:
        module = hf_reward_ext._PLACES[name]
        is_documented = f"`{name}`" in base if ".base." in module else module.split(".")[1] in PACKAGES
        assert getattr(hf_reward_ext, name) is getattr(importlib.import_module(module), name) and is_documented, name


def test_type_checkers_see_the_names_that_are_loaded_on_first_use():
    tree = ast.parse((ROOT / "hf_reward_ext" / "__init__.py").read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {node.module: tuple(alias.name for alias in node.names) for node in block.body}
    assert seen == hf_reward_ext._MODULES
    assert sorted(sum(seen.values(), ())) == hf_reward_ext.__all__
    assert set(hf_reward_ext.__all__) <= set(dir(hf_reward_ext))


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", *(["-c", code] if code else []), *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


IMPORT = """
import gc, json, socket, sys, time
def refuse(*args, **kwargs):
    raise RuntimeError("a socket was opened, or a model loaded")
socket.socket.connect = socket.getaddrinfo = refuse
import torch, transformers
from transformers import GenerationMixin
from trl import RewardTrainer
transformers.PreTrainedModel.from_pretrained = refuse
methods = ["generate", "_sample", "_beam_search", "_assisted_decoding"]
plain = [getattr(GenerationMixin, name) for name in methods]
before, start = set(sys.modules), time.process_time()
import hf_reward_ext
seconds = time.process_time() - start
from transformers.pipelines import PIPELINE_REGISTRY
print(json.dumps({
    "seconds": seconds,
    "roots": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
    "grpo": "trl.trainer.grpo_trainer" in sys.modules,
    "same_methods": [getattr(GenerationMixin, name) for name in methods] == plain,
    "tasks": PIPELINE_REGISTRY.get_supported_tasks(),
    "weights": sum(tensor.numel() for tensor in gc.get_objects() if isinstance(tensor, torch.nn.Parameter)),
}))
"""


@pytest.fixture(scope="module")
def imported():
    """What there is after `import hf_reward_ext` in a process of its own, in which sockets and models are refused."""
    return json.loads(python(IMPORT))


def test_importing_adds_little_to_torch_transformers_and_trl(imported):
    assert imported["seconds"] < 1
    assert not {"scipy", "sklearn", "matplotlib"} & set(imported["roots"])
    assert not imported["grpo"]


def test_importing_leaves_transformers_untouched(imported):
    assert imported["same_methods"]


def test_importing_opens_no_socket_and_loads_no_model(imported):
    assert "reward-bon" in imported["tasks"] and imported["weights"] == 0


@pytest.mark.parametrize("command", [[], ["train"], ["bon"], ["generate"], ["judge"], ["evaluate"], ["demo"]])
def test_help_needs_no_torch(command):
    code = """
import sys
sys.argv[0] = "hf-reward-ext"
from hf_reward_ext.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0
    assert not {"torch", "transformers"} & set(sys.modules)
"""
    assert "usage: hf-reward-ext" in python(code, *command, "--help")


def test_the_package_runs_as_a_module():
    assert python("", "-m", "hf_reward_ext", "--version").strip() == hf_reward_ext.__version__


def test_only_safetensors_and_nothing_that_runs_remote_code():
    for path in (ROOT / "hf_reward_ext").rglob("*.py"):
        tree = ast.parse(path.read_text())
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not called & {"torch.save", "torch.load", "pickle.load", "pickle.dump", "joblib.load", "eval", "exec"}
        assert not list(switched_on(tree, "trust_remote_code")), path


def switched_on(tree, name):
    """Where code, not the text of a card, gives `name` the value `True`."""
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.keyword):
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            pairs = [(getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            pairs = [(ast.unparse(target).split(".")[-1], node.value) for target in targets]
        elif isinstance(node, ast.arguments):
            given = [*node.posonlyargs, *node.args]
            pairs = [(one.arg, value) for one, value in zip(reversed(given), reversed(node.defaults), strict=False)]
            pairs += [(one.arg, value) for one, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
        yield from (key for key, value in pairs if key == name and getattr(value, "value", None) is True)


@pytest.mark.parametrize("code", ["f(on=True)", "f(**{'on': True})", "on = True", "x.on: bool = True",
                                  "def f(a, on=True): ...", "def f(*, on=True): ..."])  # fmt: skip
def test_the_search_for_it_finds_it(code):
    assert list(switched_on(ast.parse(code), "on")) == ["on"]
    assert not list(switched_on(ast.parse(code.replace("True", "False")), "on"))
