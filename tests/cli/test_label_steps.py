import json

import pytest
from cli_files import read_rows, write_rows

from hf_reward_ext.best_of_n import label_steps
from hf_reward_ext.cli.main import main
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.engines import Sampling, TransformersGenerator

POLICY = "hf_reward_ext/demo-policy"
ROWS = [
    {"prompt": "6 1 3 3=12|", "completion": "6-1=5;5*3=15;15-3=12"},
    {"prompt": "6 1 3 3=12|", "completion": "6+1=7;7*3=21;21+3=24"},
]


def test_rows_are_those_of_the_function(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_checks.py").write_text(
        "def twelve(completions):\n    return [c.endswith('=12') for c in completions]\n"
    )
    data = write_rows(tmp_path / "rows.jsonl", ROWS)
    line = ["label-steps", "--model", POLICY, "--scorer", "my_checks:twelve", "--marks", ";", "--num_rollouts", "4"]
    line += ["--data", data, "--max_new_tokens", "24", "--seed", "2", "--top_k", "0"]
    assert main([*line, "--output", "steps.jsonl"]) == 0
    found = read_rows(tmp_path / "steps.jsonl")

    def twelve(completions):
        return [text.endswith("=12") for text in completions]

    sampling = Sampling(max_new_tokens=24, seed=2)
    assert found == label_steps(
        TransformersGenerator(*load_policy()), ROWS, twelve, ";", num_rollouts=4, sampling=sampling
    )
    assert found[0]["labels"][-1] == 1 and found[1]["labels"][-1] == 0
    assert found[0]["completions"] == ["6-1=5;", "5*3=15;", "15-3=12"]
    assert "2 rows, 6 steps, mean label 0." in capsys.readouterr().out
    assert main([*line, "--hard", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_steps"] == 6
    hard = [[float(label > 0) for label in row["labels"]] for row in found]
    assert [row["labels"] for row in report["rows"]] == hard


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": None}, "--model is missing"),
        ({"--scorer": None}, "--scorer is missing"),
        ({"--data": None}, "--data is missing"),
        ({"--scorer": "confidence"}, "--scorer checks whole responses"),
        ({"--html": "page.html"}, "--html shows candidates and judgments"),
        ({"--temperature": "0"}, "--temperature 0 makes all rollouts the same"),
        ({"--num_rollouts": "0"}, "`--num_rollouts` must be"),
    ],
)
def test_a_wrong_command_line_ends_with_two(change, message, capsys):
    given = {"--model": POLICY, "--scorer": "m:f", "--data": "rows.jsonl", **change}
    with pytest.raises(SystemExit, match="2"):
        main(["label-steps", *[word for pair in given.items() if pair[1] is not None for word in pair]])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "marks", "message"),
    [
        ([ROWS[0], {"prompt": "6|", "completion": ""}], ";", "Row 1 of the step data: `completion` must have text"),
        ([{"prompt": "6|", "answer": "7"}], ";", "{prompt, completion} is needed"),
        (ROWS, "(", "`marks` must be a regular expression"),
    ],
)
def test_malformed_rows_are_refused_before_a_model_is_loaded(rows, marks, message, tmp_path, capsys):
    data = write_rows(tmp_path / "rows.jsonl", rows)
    line = ["label-steps", "--model", "no/such/model", "--scorer", "no_module:f", "--data", data, "--marks", marks]
    assert main(line) == 1
    assert message in capsys.readouterr().err
