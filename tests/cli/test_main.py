import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_reward_ext import __version__
from hf_reward_ext.cli import demo
from hf_reward_ext.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capsys):
    name = command.__name__.split(".")[-1].replace("_", "-")
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"usage: hf-reward-ext {name}" in capsys.readouterr().out


def test_a_command_runs_as_a_script(tmp_path):
    arguments = ["demo", "--write_data", str(tmp_path), "--num_train", "3", "--num_test", "2", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "hf_reward_ext.cli.main", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    files = json.loads(run.stdout)["files"]
    assert files[str(tmp_path / "completions" / "train.jsonl")] == 3
    assert "sampling" in run.stderr


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["demo", "--smal"], "hf-reward-ext demo: error: unrecognized arguments: --smal"),
        (["demo", "--seed", "x"], "invalid int value: 'x'"),
        (["demo", "--config"], "--config: expected a file"),
        (["demo", "--config", "no.yaml"], "there is no file 'no.yaml'"),
        (["train"], "required: METHOD"),
        (["train", "ppo"], "invalid choice: 'ppo'"),
    ],
)
def test_a_wrong_command_line_ends_with_two(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("Two\n lines."), "hf-reward-ext: error: Two lines.\n"),
        (KeyError("x"), "hf-reward-ext: error: KeyError: 'x' (--debug shows where)\n"),
        (KeyboardInterrupt(), "hf-reward-ext: interrupted\n"),
    ],
)
def test_an_error_while_running_is_one_line_and_ends_with_one(error, message, monkeypatch, capsys):
    monkeypatch.setattr(demo, "run", lambda args: (_ for _ in ()).throw(error))
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == message


def test_debug_shows_the_traceback(monkeypatch):
    def fail(args):
        raise ValueError("here")

    monkeypatch.setattr(demo, "run", fail)
    with pytest.raises(ValueError, match="here"):
        main(["demo", "--debug"])


def test_json_is_all_there_is_on_stdout(monkeypatch, capsys):
    def work(args):
        print("working")
        return {"seed": args.seed}

    monkeypatch.setattr(demo, "run", work)
    assert main(["demo", "--seed", "3", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"seed": 3}
    assert shown.err == "working\n"
