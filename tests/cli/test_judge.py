import json

import pytest
from cli_files import TEMPLATE, read_rows, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext import FastSlowRewardModel, JudgeTemplate
from hf_reward_ext.cli import judge as judge_command
from hf_reward_ext.cli.main import main


def save_judge(folder, path, **settings):
    judge = FastSlowRewardModel(
        AutoModelForCausalLM.from_pretrained(folder / "policy"),
        AutoTokenizer.from_pretrained(folder / "policy"),
        template=JudgeTemplate(**TEMPLATE),
        max_new_tokens=4,
        **settings,
    )
    judge.save_pretrained(path)
    return judge


@pytest.fixture
def judge(folder, tmp_path):
    return save_judge(folder, tmp_path / "judge", verdicts=("w20", "w21"))


@pytest.mark.parametrize("mode", ["fast", "slow", "gated"])
def test_pairs_are_judged_as_by_the_model(mode, judge, folder, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    more = ["--data", f"{folder}/pairs", "--mode", mode, "--batch_size", "5", "--output", str(output), "--json"]
    assert main(["judge", "--model", f"{tmp_path}/judge", *more]) == 0
    report, rows = json.loads(capsys.readouterr().out), read_rows(output)
    judgments = judge.judge(*([row[name] for row in rows] for name in ("prompt", "chosen", "rejected")), mode=mode)
    assert [row["probability"] for row in rows] == pytest.approx([one.probability for one in judgments], abs=1e-5)
    assert report["accuracy"] == sum(one.score > 0 for one in judgments) / 12
    assert report["written"] == sum(one.mode == "slow" for one in judgments) / 12


def test_without_both_orders_the_correct_response_alternates(folder, tmp_path, capsys):
    judge = save_judge(folder, tmp_path / "judge", verdicts=("w20", "w21"), both_orders=False)
    more = ["--mode", "fast", "--output", f"{tmp_path}/out.jsonl"]
    assert main(["judge", "--model", f"{tmp_path}/judge", "--data", f"{folder}/pairs", *more]) == 0
    rows = read_rows(tmp_path / "out.jsonl")
    assert [row["shown_first"] for row in rows] == ["chosen", "rejected"] * 6
    [direct] = judge.judge([rows[1]["prompt"]], [rows[1]["rejected"]], [rows[1]["chosen"]], mode="fast")
    assert rows[1]["probability"] == pytest.approx(direct.probability, abs=1e-5)
    assert rows[1]["correct"] == (direct.score < 0)


@pytest.mark.filterwarnings("ignore:This judge may be unreliable")
def test_one_decision_and_a_calibration_by_a_plain_causal_lm(folder, capsys):
    more = ["--verdicts", "w20", "w21", "--prompt", "w3", "--responses", "w4", "w5", "--max_new_tokens", "3"]
    calibration = ["--calibration_data", f"{folder}/pairs/test.jsonl", "--budget", "0.5"]
    assert main(["judge", "--model", f"{folder}/policy", *more, *calibration, "--calibrate_written"]) == 0
    shown = capsys.readouterr().out
    assert "written judgments right in 0." in shown and "of the tokens" in shown
    assert "fast verdicts right in 0." in shown and "both orders disagree in" in shown
    assert "Calibrated on 12 pairs" in shown
    assert "num_decisions 1" in shown and "accuracy" not in shown


def test_single_responses_need_pointwise_verdicts(judge, folder, tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "w3", "response": "w4"}, {"prompt": "w3", "response": "w5"}])
    assert main(["judge", "--model", f"{tmp_path}/judge", "--data", rows]) == 1
    assert "for the judge's verdicts ['w20', 'w21'], got single responses. Give pairs" in capsys.readouterr().err
    save_judge(folder, tmp_path / "pointwise", verdicts=("w20", "w21"), kind="binary")
    assert main(["judge", "--model", f"{tmp_path}/pointwise", "--data", rows, "--mode", "fast", "--json"]) == 0
    [first, second] = json.loads(capsys.readouterr().out)["rows"]
    assert first["score"] != second["score"]


def test_numbers_without_a_meaning_are_null(folder, tmp_path, capsys):
    save_judge(folder, tmp_path / "judge", verdicts=("w20", "w21"), kind="rating")
    more = ["--prompt", "w3", "--responses", "w4", "--mode", "fast", "--json"]
    assert main(["judge", "--model", f"{tmp_path}/judge", *more]) == 0
    assert "NaN" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"mass": 0.04}, "it puts 0.04 of its probability on the verdicts; choose verdicts that it writes"),
        ({"inconsistent": 1.0}, "prefer different responses in 100.0%"),
        ({"unparsed": 0.5, "cut": 0.25}, "50.0% of the written judgments have no verdict, 25.0% were cut; raise"),
        ({}, ""),
    ],
)
def test_a_judge_that_cannot_judge_is_warned_of(numbers, message, judge, folder, tmp_path, monkeypatch, capsys):
    good = {"mass": 0.9, "inconsistent": 0.1, "unparsed": 0.0, "cut": 0.0}
    monkeypatch.setattr(judge_command, "_summarize", lambda results: {**good, **numbers})
    assert main(["judge", "--model", f"{tmp_path}/judge", "--data", f"{folder}/pairs", "--mode", "fast"]) == 0
    shown = capsys.readouterr().err
    assert shown.count("This judge may be unreliable") == bool(numbers) and message in shown


def test_rows_of_a_benchmark_are_judged(judge, tmp_path, capsys):
    row = {"input": "w3", "output_1": "w6", "output_2": "w7", "label": 2}
    data = write_rows(tmp_path / "rows.jsonl", [row, {**row, "label": 1}])
    line = ["judge", "--model", f"{tmp_path}/judge", "--data", data, "--mode", "fast", "--json"]
    assert main([*line, "--format", "llmbar"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["chosen"] for row in report["rows"]] == ["w7", "w6"]
    assert report["accuracy_lower"] <= report["accuracy"] <= report["accuracy_upper"]
    assert main(line) == 1
    assert "is needed. Rename columns" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize("value", ["", None])
def test_a_wrong_row_is_named_before_the_judge_is_loaded(column, value, judge, tmp_path, capsys):
    rows = [{"prompt": "w3", "chosen": "w4", "rejected": "w5"}] * 2
    data = write_rows(tmp_path / "rows.jsonl", [*rows, {**rows[0], column: value}])
    assert main(["judge", "--model", f"{tmp_path}/judge", "--data", data]) == 1
    shown = capsys.readouterr().err
    assert f"Row 2 of the judged data: `{column}` must" in shown and "Loading weights" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a", "--responses", "b"], "--model is missing"),
        (["--model", "m", "--data", "d", "--mode", "fast", "--votes", "2"], "--mode fast writes none"),
        (["--model", "m", "--data", "d", "--mode", "fast", "--max_new_tokens", "9"], "--mode fast writes none"),
        (["--model", "m"], "give --data, or --prompt with --responses"),
        (["--model", "m", "--prompt", "a"], "give --data, or --prompt with --responses"),
        (["--model", "m", "--data", "d", "--budget", "0.1"], "--calibration_data goes with one of"),
        (["--model", "m", "--data", "d", "--calibration_data", "c"], "--calibration_data goes with one of"),
    ],
)
def test_a_wrong_command_line_ends_with_two(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["judge", *arguments])
    assert message in capsys.readouterr().err


def test_calibration_data_has_the_columns_of_the_format(judge, tmp_path, capsys):
    rows = [{"input": f"w{n}", "output_1": "w6 w7", "output_2": "w8", "label": 1 + n % 2} for n in range(3, 9)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    line = ["judge", "--model", f"{tmp_path}/judge", "--data", data, "--mode", "fast", "--format", "llmbar"]
    assert main([*line, "--calibration_data", data, "--budget", "0.5", "--output", f"{tmp_path}/out.jsonl"]) == 0
    shown = capsys.readouterr()
    assert "Calibrated on 6 pairs" in shown.out and f"6 rows in {tmp_path}/out.jsonl" in shown.out
    assert "warnings.warn" not in shown.err and "UserWarning" not in shown.err
    assert shown.err.count("On the calibration pairs the judge may be unreliable") == 1


def test_more_written_judgments_than_the_budget_are_explained(judge, folder, tmp_path, monkeypatch, capsys):
    good = {"mass": 0.9, "inconsistent": 0.1, "unparsed": 0.0, "cut": 0.0, "written": 0.35}
    monkeypatch.setattr(judge_command, "_summarize", lambda results: good)
    line = ["judge", "--model", f"{tmp_path}/judge", "--data", f"{folder}/pairs", "--mode", "fast"]
    held_out = ["--calibration_data", f"{folder}/pairs/test.jsonl", "--budget"]
    assert main([*line, *held_out, "0.3"]) == 0
    assert "35.0% of the decisions were written: the thresholds keep the budget of 30.0%" in capsys.readouterr().err
    assert main([*line, *held_out, "0.4"]) == 0
    assert "keep the budget" not in capsys.readouterr().err
