"""The benchmark of GPUs runs, and says so where there is none."""

import importlib.util
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_runs_on_a_cpu_and_measures_nothing_without_a_gpu(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    spec = importlib.util.spec_from_file_location("gpu", EXAMPLES / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = ["--size", "demo", "--rows", "1", "--new-tokens", "3", "--repeats", "1"]
    module.main([*small, "--device", "cpu"])
    shown = capsys.readouterr().out
    assert shown.count("on the CPU (no figures of a GPU)") == 3
    for way in ("processor", "composite, two streams", "adapters", "with rewards", "search, 8 prompts"):
        assert f"| {way} |" in shown
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU on this machine, so nothing was measured"):
        module.main(small)
