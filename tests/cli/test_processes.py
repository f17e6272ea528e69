import os
from argparse import Namespace

import pytest

from hf_reward_ext.cli import bon, completion, demo, env, evaluate, generate, judge, label_steps, serve, train
from hf_reward_ext.cli.main import COMMANDS, main
from hf_reward_ext.cli.processes import leaves_work_to_another


@pytest.fixture
def launched(monkeypatch):
    def launch(rank, count):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "localhost"}.items():
            monkeypatch.setenv(name, str(value))

    return launch


def test_the_first_of_several_processes_works_as_if_alone(launched, capsys):
    launched(0, 2)
    assert not leaves_work_to_another("demo")
    assert "2 processes were started, but `demo` runs in one; the others end." in capsys.readouterr().err
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"} & set(os.environ)


LINES = {demo: "demo", serve: "serve --scorer head", env: "env", completion: "completion --shell bash"}
SPLIT = {
    generate: "generate --model policy --prompt w3",
    bon: "bon --model policy --reward_model head --prompt w3",
    label_steps: "label-steps --model policy --scorer head --data rows.jsonl",
    judge: "judge --model policy --data pairs.jsonl",
    evaluate: "evaluate --scorer head --data pairs.jsonl",
}


def test_every_command_that_does_not_train_is_tried():
    assert {*LINES, *SPLIT, train} == set(COMMANDS)


@pytest.mark.parametrize(("command", "line"), LINES.items(), ids=LINES.values())
def test_the_others_end(command, line, launched, monkeypatch):
    launched(1, 2)
    monkeypatch.setattr(command, "run", lambda options: pytest.fail("another process works"))
    assert main(line.split()) == 0


@pytest.mark.parametrize(("command", "line"), SPLIT.items(), ids=SPLIT.values())
def test_every_process_works_on_rows_and_only_the_first_prints(command, line, launched, monkeypatch, capsys):
    monkeypatch.setattr(command, "run", lambda options: print(os.environ["RANK"]))
    for rank in (0, 1):
        launched(rank, 2)
        assert main(line.split()) == 0
    assert capsys.readouterr().out == "0\n"


def test_one_process_works(launched):
    launched(0, 1)
    assert not leaves_work_to_another("demo")


def test_every_process_trains(launched, monkeypatch):
    launched(1, 2)
    ran = []
    monkeypatch.setattr(
        train, "parse", lambda arguments: ("options", Namespace(json=False, debug=False, quiet=False, log_level=None))
    )
    monkeypatch.setattr(train, "run", ran.append)
    assert main(["train", "genarm"]) == 0
    assert ran == ["options"] and os.environ["RANK"] == "1"
