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
