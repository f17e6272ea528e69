import json

import pytest

from hf_reward_ext import ELHSRModel, __version__
from hf_reward_ext.cli.main import main


def test_the_demo_prints_a_table_and_writes_results_plot_and_heads(tmp_path, capsys):
    main(["demo", "--small", "--output", str(tmp_path)])
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "results.json").read_text())
    methods = {(row["task"], row["method"]) for row in report["results"]}
    assert {("arithmetic", "ELHSR"), ("arithmetic", "majority"), ("walk", "ELHSR, pruned")} <= methods
    for row in report["results"]:
        assert row["accuracy"]["lower"] <= row["accuracy"]["value"] <= row["accuracy"]["upper"]
        assert row["method"] in shown
    oracle = next(row for row in report["results"] if row["method"] == "any of 16" and row["task"] == "arithmetic")
    assert all(row["accuracy"]["value"] <= oracle["accuracy"]["value"] for row in report["results"]
               if row["task"] == "arithmetic" and row["method"] != "greedy")  # fmt: skip
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert ELHSRModel.from_pretrained(tmp_path / "elhsr-walk").config.layers == [0, 1, 2, 3]


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "demo" in capsys.readouterr().err
