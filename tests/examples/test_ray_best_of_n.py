"""The recipe for Ray Data: rows do not depend on workers, and a call that was interrupted resumes."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_reward_ext.demo import arithmetic

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_best_of_n.py"
PROMPTS = [problem.prompt for problem in arithmetic.problems("dev")[:4]]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("ray_best_of_n", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(worker, prompts):
    found = worker({"prompt": prompts})
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def test_rows_do_not_depend_on_workers_and_batches(example, monkeypatch):
    monkeypatch.setattr(example, "correct", lambda prompts, completions: [float(len(one)) for one in completions])
    one = example.BestOfN(None, None, 3, 16)
    whole = rows_of(one, PROMPTS)
    other = example.BestOfN(None, None, 3, 16)
    parts = [row for start in (2, 0) for row in rows_of(other, PROMPTS[start : start + 2])]
    assert len(whole) > 1 and {row["prompt"] for row in whole} <= set(PROMPTS)
    assert sorted(parts, key=str) == sorted(whole, key=str)


class Files:
    """Stands for a Ray dataset, with one block: what it would read, map and write."""

    written: list[str] = []

    def __init__(self, path, fails=False):
        self.path, self.fails = path, fails

    def map_batches(self, worker, **settings):
        assert settings["concurrency"] == 3 and len(settings["fn_constructor_args"]) == 4
        return self

    def write_json(self, folder):
        Path(folder).mkdir()
        (Path(folder) / "0.json").write_text("{}\n")
        if self.fails:
            raise RuntimeError("a machine is gone")
        Files.written.append(folder)


def test_a_file_that_was_interrupted_is_done_again_and_others_are_left(example, tmp_path, monkeypatch):
    Files.written = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "6 1 3 3=12|"}\n')
    data = map(str, sorted(tmp_path.glob("*.jsonl")))
    arguments = ["--workers", "3", "--output", f"{tmp_path}/out", "--data", *data]
    for fails in (True, False, False):
        data = SimpleNamespace(read_json=lambda path, fails=fails: Files(path, fails and "b.jsonl" in path))
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=lambda **_: None, data=data))
        if fails:
            with pytest.raises(RuntimeError, match="gone"):
                example.main(arguments)
        else:
            example.main(arguments)
    assert [Path(one).name for one in Files.written] == ["a.part", "b.part"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]
