"""The SLA examples and benchmarks run on the demo policy, at a small size."""

import importlib
import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def beside_the_examples(monkeypatch, tmp_path):
    """They import one another, as scripts do."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_channel_is_trained_and_searched_with(tmp_path, capsys):
    channel = str(tmp_path / "channel")
    importlib.import_module("sla_train").main(["--output", channel, "--num-prompts", "40", "--epochs", "1"])
    importlib.import_module("sla_search").main(["--channel", channel])
    shown = capsys.readouterr().out
    assert "Pair accuracy" in shown and shown.count("confirmed:") >= 3
    assert "forwards of at most 4 rows" in shown
    assert "├──" in shown and "└──" in shown  # the tree


@pytest.mark.parametrize("way", [[], ["--joint"]], ids=["one after the other", "joint"])
def test_dpo_and_search(tmp_path, capsys, way):
    importlib.import_module("sla_dpo").main(
        ["--num-prompts", "30", "--num-test", "4", "--epochs", "1", "--output", str(tmp_path / "out"), *way]
    )
    shown = capsys.readouterr().out
    assert shown.count("greedy: ") == 2 and "after DPO, search: " in shown
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_the_benchmark_of_costs_counts_what_the_formula_says(capsys):
    importlib.import_module("sla").main(["--new-tokens", "34", "--repeats", "1", "--only", "growth"])
    rows = [
        line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith(("| (1", "| (2", "| (3"))
    ]
    assert len(rows) == 12
    for row in rows:
        for cell in row[-4:-1]:
            found, expected = cell.split("/")
            assert int(found) == int(expected), row


def test_the_benchmark_of_quality_compares_every_way(tmp_path, capsys):
    importlib.import_module("sla_quality").main(
        [
            "--output",
            str(tmp_path),
            "--num-train",
            "24",
            "--num-test",
            "4",
            "--epochs",
            "1",
            "--split",
            "dev",
            "--temperatures",
            "0.8",
        ]
    )
    records = json.loads((tmp_path / "sla_quality.json").read_text())
    assert {"greedy", "search (2, 1, 7), fork above 0.5 nats", "DPO, search depth 7"} <= set(records["ways"])
    assert {"channel, token_bt", "linear head on the last state"} <= set(records["scores"])
    assert "minus best-of-N at these tokens" in capsys.readouterr().out
