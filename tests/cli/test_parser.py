import os
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest

from hf_reward_ext.base.options import Count, Number
from hf_reward_ext.cli.options import option
from hf_reward_ext.cli.parser import command_parser


@dataclass
class Wings:
    title: ClassVar[str] = "wings"
    span: Annotated[float, Number(above=0)] = option("meters", 1.0)
    color: Literal["red", "blue"] = option("paint", "red")


@dataclass
class Flight(Wings):
    title: ClassVar[str] = "flight"
    high: bool = option("over the clouds", False)
    loops: bool | None = option("or not")
    stops: Annotated[list[int] | None, Count()] = option("places")
    name: str | None = option("of the flight")
    shape: str = option("of the plane", "round", option="as")
    seats: Annotated[int, Count()] = option("number", 3)

    def check(self):
        if self.high and self.seats > 9:
            raise ValueError("--high is for small planes")


def parse(*arguments):
    return command_parser("fly", Flight, "Flies.", ["--high"]).parse_command(arguments)


def test_options_are_written_with_either_sign(tmp_path):
    options, flags = parse("--stops", "1", "2", "--as=square", "--loops", "--high", "--name", "a-b", "--json")
    assert options == Flight(stops=[1, 2], shape="square", loops=True, high=True, name="a-b")
    assert (flags.json, flags.debug) == (True, False)
    assert parse("--no_loops")[0].loops is False and parse("--loops", "false")[0].loops is False


def test_the_command_line_wins_over_a_file_in_utf_8(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_REWARD_EXT_TEST", raising=False)
    path = tmp_path / "x.yaml"
    text = "env: {HF_REWARD_EXT_TEST: 1}\nseats: 7\nstops: 4\nspan: 2\nhigh: true\nas: ründ\nname: null\nloops: false\n"
    path.write_bytes(text.encode())
    options, _ = parse("--config", str(path), "--seats", "5")
    assert options == Flight(seats=5, stops=[4], span=2, high=True, shape="ründ", loops=False)
    assert parse(f"--config={path}")[0].seats == 7
    assert os.environ.pop("HF_REWARD_EXT_TEST") == "1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "does not map option names to values"),
        ("a: [", "is no YAML"),
        ("\x00", "is no YAML"),
        ("wheels: 3", "unrecognized options in the file: --wheels 3"),
        ("env: 3", "`env` in"),
        ("seats: many", "invalid int value: 'many'"),
        ("seats: 2.5", "--seats must be an integer, got 2.5"),
        ("seats: true", "--seats must be an integer, got True"),
        ("seats: 0", "`--seats` must be an integer of at least 1, got 0"),
        ("span: .nan", "`--span` must be a number above 0, got nan"),
        ("span: [1]", "--span must be a number, got [1]"),
        ("color: green", "`--color` must be one of 'red', 'blue', got 'green'"),
        ("name: 5", "--name must be text, got 5"),
        ("high: 2", "--high must be true or false, got 2"),
        ("stops: [1, x]", "--stops must be an integer, got 'x'"),
        ("stops: [1, 0]", "`--stops` must be an integer of at least 1, got 0"),
        ("{high: true, seats: 10}", "--high is for small planes"),
    ],
)
def test_a_wrong_file_is_a_usage_error(text, message, tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit, match="2"):
        parse("--config", str(path))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wheels", "3"], "unrecognized arguments: --wheels 3"),
        (["--hig"], "unrecognized arguments: --hig"),
        (["--seats"], "expected one argument"),
        (["--seats", "nan"], "invalid int value: 'nan'"),
        (["--span", "nan"], "`--span` must be a number above 0, got nan"),
        (["--span", "inf"], "got inf"),
        (["--color", "green"], "invalid choice: 'green'"),
        (["--high", "maybe"], "--high"),
        (["--high=--"], "argument --high: must have another value than '--'"),
        (["--config"], "expected a file"),
        (["--config", "no.yaml"], "there is no file 'no.yaml'"),
    ],
)
def test_a_wrong_line_is_a_usage_error(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(*arguments)
    assert message in capsys.readouterr().err


def test_help_has_groups_defaults_and_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    shown = capsys.readouterr().out
    assert shown.index("wings:") < shown.index("--span X") < shown.index("flight:") < shown.index("of every command:")
    assert "--as TEXT" in shown and "--shape" not in shown and "--no_loops" not in shown
    assert "number (default: 3)" in shown
    assert "examples:\n  hf-reward-ext fly --high" in shown
