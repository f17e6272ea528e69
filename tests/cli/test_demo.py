import json

import pytest

from hf_reward_ext import ELHSRModel
from hf_reward_ext.cli.main import main
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.comparison import Comparison, beyond_oracle


@pytest.mark.filterwarnings("ignore:This judge may be unreliable")  # it is trained for 4 steps
def test_the_demo_compares_all_methods_and_writes_results_page_plots_and_models(tmp_path, capsys):
    assert main(["demo", "--small", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    methods = json.loads((tmp_path / "results.json").read_text())["methods"]
    assert list(methods) == ["GenARM", "SLA", "Fast-Slow", "ELHSR"]
    page = (tmp_path / "index.html").read_text()
    for method, report in methods.items():
        assert f"{method} on the demo policy" in shown and f"<h2>{method}</h2>" in page
        assert (tmp_path / f"{method.lower()}.png").read_bytes().startswith(b"\x89PNG")
        for row in report["ways"]:
            assert row["accuracy"]["lower"] <= row["accuracy"]["value"] <= row["accuracy"]["upper"]
            assert row["name"] in page
    for name in ("genarm/guide", "sla", "elhsr-walk", "judge"):
        assert (tmp_path / name / "config.json").exists() and (tmp_path / name / "README.md").exists()
    assert ELHSRModel.from_pretrained(tmp_path / "elhsr-walk").config.layers == [0, 1, 2, 3]
    check_oracles(methods)
    check_controls(methods)
    before = (tmp_path / "results.json").read_bytes()
    assert main(["demo", "--small", "--output", str(tmp_path)]) == 0  # all methods are finished
    assert (tmp_path / "results.json").read_bytes() == before


def check_oracles(methods):
    """No way is right on a problem where the oracle of its candidates is not."""
    with_oracle = {method for method, one in methods.items() if not beyond_oracle(Comparison.from_json(one))
                   and any(way["is_oracle"] for way in one["ways"])}  # fmt: skip
    assert with_oracle == {"SLA", "Fast-Slow", "ELHSR"}  # GenARM changes what is sampled; nothing is chosen


def check_controls(methods):
    names = {method: {row["name"] for row in one["ways"]} for method, one in methods.items()}
    assert {"greedy", "policy alone, T = 0.50", "GenARM, alpha = 1.0", "weights 0.5, 0.5"} <= names["GenARM"]
    assert {"greedy", "best of 4", "look-ahead, depth 15", "any of 16"} <= names["SLA"]
    assert {"fast", "gated", "always slow", "random gate", "best gate"} <= names["Fast-Slow"]
    assert {"majority", "log-probability", "text reward model", "ELHSR", "ELHSR, pruned"} <= names["ELHSR"]
    pruned, plain = (
        next(row for row in methods["ELHSR"]["ways"] if row["task"] == "walk" and row["name"] == name)
        for name in ("ELHSR, pruned", "ELHSR")
    )
    assert pruned["tokens"] < plain["tokens"]


def test_data_of_the_task_is_written_as_rows(tmp_path, capsys):
    assert main(["demo", "--write_data", str(tmp_path), "--num_train", "8", "--num_test", "4"]) == 0
    assert f"4 rows in {tmp_path}/prompts.jsonl" in capsys.readouterr().out
    rows = {
        name: [json.loads(line) for line in (tmp_path / name / "train.jsonl").read_text().splitlines()]
        for name in ("completions", "pairs", "judge")
    }
    for row in rows["completions"]:
        assert row["label"] == arithmetic.is_correct(row["prompt"], row["completion"])
    for row in rows["pairs"]:
        assert arithmetic.is_correct(row["prompt"], row["chosen"])
        assert not arithmetic.is_correct(row["prompt"], row["rejected"])
    assert {one["about"] for one in rows["judge"][0]["judgments"]} == {"chosen", "rejected"}
    assert not list(tmp_path.rglob("*.part"))


LINE = ["--num_train", "3", "--num_test", "2"]


def test_data_of_others_stays(tmp_path, capsys):
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "train.jsonl").write_text("mine\n")
    assert main(["demo", "--write_data", str(tmp_path), *LINE]) == 1
    assert "must be a folder without other data, but" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["train.jsonl"]
    (tmp_path / "results.json").write_text("[1]")
    assert main(["demo", "--small", "--output", str(tmp_path)]) == 1
    assert "was not written by the demo" in capsys.readouterr().err


def test_data_that_was_interrupted_is_completed_alike(tmp_path, capsys):
    assert main(["demo", "--write_data", str(tmp_path / "a"), *LINE]) == 0
    whole = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in (tmp_path / "a").rglob("*.json*")}
    for name in ("pairs/test.jsonl", "prompts.jsonl", "judge/validation.jsonl"):
        (tmp_path / "a" / name).unlink()
    assert main(["demo", "--write_data", str(tmp_path / "a"), *LINE]) == 0
    assert {path.relative_to(tmp_path / "a"): path.read_bytes() for path in (tmp_path / "a").rglob("*.json*")} == whole
    assert main(["demo", "--write_data", str(tmp_path / "a"), *LINE, "--seed", "1"]) == 1
    assert "not made with these settings" in capsys.readouterr().err
    assert main(["demo", "--write_data", str(tmp_path / "b"), "--seed", "99999"]) == 1
    assert "`--seed 99999` must leave 2000 problems" in capsys.readouterr().err
