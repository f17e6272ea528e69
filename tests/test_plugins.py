"""Another package adds a reward, a benchmark and a generator: `tests/plugin_example` is installed beside this one."""

import json
import shutil
from pathlib import Path

import pytest
from cli_files import read_rows, write_rows

from hf_reward_ext import evaluate_preferences
from hf_reward_ext.base.plugins import find_plugin, plugin_names, plugin_value
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.best_of_n.reading import as_read_reward
from hf_reward_ext.cli.main import main

EXAMPLE = Path(__file__).parent / "plugin_example"
ROWS = [{"question": "2+2?", "good": "4", "bad": "five"}, {"question": "3+3?", "good": "It is 6.", "bad": "7"}]


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))


def test_the_example_is_short():
    assert len((EXAMPLE / "example_rewards.py").read_text().splitlines()) <= 40


def test_names_are_found_only_where_they_are_installed(monkeypatch):
    assert find_plugin("rewards", "shortest") is None and plugin_names("benchmarks") == []
    monkeypatch.syspath_prepend(str(EXAMPLE))
    assert plugin_names("generators") == ["echo"] and plugin_value("rewards", "shortest") == "example_rewards:shortest"
    assert plugin_value("rewards", "other/name") == "other/name" and plugin_value("rewards", None) is None


def test_in_python(installed):
    assert as_scorer("shortest")(["p"], ["abc"]) == [-3.0] and as_read_reward("shortest") is None
    assert evaluate_preferences("shortest", ROWS, "example")["accuracy"].value == 0.5
    with pytest.raises(ValueError, match="must be one of .*'example'.*got 'other'"):
        evaluate_preferences("shortest", ROWS, "other")


def test_on_the_command_line(installed, tmp_path, capsys):
    best = ["bon", "--engine", "echo", "--reward_model", "shortest", "--prompt", "abcdef", "--num_candidates", "3"]
    assert main([*best, "--output", f"{tmp_path}/rows.jsonl"]) == 0
    assert read_rows(tmp_path / "rows.jsonl")[0]["completions"] == ["a", "ab", "abc"]
    write_rows(tmp_path / "data.jsonl", ROWS)
    capsys.readouterr()
    judged = ["evaluate", "--scorer", "shortest", "--format", "example", "--data", f"{tmp_path}/data.jsonl"]
    assert main([*judged, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["estimates"]["accuracy"]["value"] == 0.5


def test_two_packages_with_one_name(installed, tmp_path, monkeypatch):
    other = tmp_path / "other_rewards-1.0.dist-info"
    shutil.copytree(EXAMPLE / "example_rewards-1.0.dist-info", other)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other_rewards\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[hf_reward_ext.rewards]\nshortest = other_rewards:shortest\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="must be declared by one package .* Uninstall the others"):
        find_plugin("rewards", "shortest")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "nobody"], "--engine is transformers, continuous_batching, vllm, echo, MODULE:FUNCTION"),
        (["--engine", "echo", "--model", "x/y"], "this --engine has its own"),
        (["--engine", "echo", "--served_model", "x"], "--served_model goes with the address of a server"),
        (["--engine", "echo", "--prune_at", "2"], "--prune_at goes with --engine transformers"),
    ],
)
def test_options_of_another_engine(installed, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bon", "--reward_model", "shortest", "--prompt", "x", *arguments])
    assert message in capsys.readouterr().err


def test_a_function_that_returns_no_generator(installed, capsys):
    assert main(["bon", "--reward_model", "shortest", "--prompt", "x", "--engine", "builtins:dict"]) == 1
    assert "must be a function that returns a generator" in capsys.readouterr().err
