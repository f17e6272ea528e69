import importlib.util
from pathlib import Path

import pytest

SMALL = {
    "genarm_pareto": ["--num-train", "12", "--num-test", "4", "--steps", "1"],
    "genarm_weak_to_strong": ["--num-train", "12", "--num-test", "4", "--steps", "1", "--weak-steps", "2"],
}


@pytest.mark.parametrize("name", SMALL)
def test_examples_with_several_guides_run_on_the_demo_policy(name, tmp_path, capsys, monkeypatch):
    path = Path(__file__).parents[2] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    module.main([*SMALL[name], "--plot", "plot.png"])
    shown = capsys.readouterr().out
    assert shown.count("right" if name == "genarm_pareto" else "weak ARM") >= 4
    assert (tmp_path / "plot.png").stat().st_size > 0
