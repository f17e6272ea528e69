import json

from hf_reward_ext import ELHSRModel
from hf_reward_ext.cli.main import main
from hf_reward_ext.demo import arithmetic


def test_the_demo_prints_a_table_and_writes_results_plot_and_heads(tmp_path, capsys):
    assert main(["demo", "--small", "--output", str(tmp_path)]) == 0
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
