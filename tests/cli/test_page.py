"""docs/command_line.md names every command, group and option, and its command lines are understood."""

import re
import shlex
from pathlib import Path

import pytest

from hf_reward_ext.cli.main import COMMANDS, main
from hf_reward_ext.cli.methods import METHODS
from hf_reward_ext.cli.train import TrainParser, parse_method

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command_line.md").read_text()
NAMES = [command.__name__.split(".")[-1].replace("_", "-") for command in COMMANDS]
WRITTEN = set(re.findall(r"^hf-reward-ext ([\w-]+ .*?)(?: > .*)?$", PAGE, re.MULTILINE))
LINES = sorted(WRITTEN - {"train METHOD --config x.yaml [options]"})


def section(name):
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def table(name):
    """Options of each group, as the page has them."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section(name), re.MULTILINE)
    return {title: set(re.findall(r"`(--\w+)`", options)) for title, options in rows if options.count("`")}


def groups(shown):
    """Options of each group of a help text."""
    parts = re.split(r"^(\S.*):\n", shown.partition("\nexamples:")[0], flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=False))
    return {
        title: set(re.findall(r"^  (--\w+)", body, re.MULTILINE)) for title, body in found.items() if title != "options"
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name != "train"])
def test_groups_and_options_of_a_command(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert table(name) == groups(capsys.readouterr().out)


@pytest.mark.parametrize("method", METHODS)
def test_groups_and_options_of_a_training(method):
    there, told = groups(TrainParser(method, show_all=True).format_help()), table("train")
    assert [method, *list(told)[1:]] == list(there)
    for title, options in list(told.items())[1:]:
        assert options <= there[title], title
    assert told["data"] == there["data"]
    assert told["model and adapter"] == there["model and adapter"]


def test_every_command_is_on_the_page():
    assert [name for name in re.findall(r"^\| \[`([\w-]+)`\]", PAGE, re.MULTILINE)] == NAMES


@pytest.mark.parametrize("line", LINES)
def test_command_lines_are_understood(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, *arguments = shlex.split(line)
    if command == "train":
        assert parse_method(arguments[0], arguments[1:]).launch_arguments == []
        return
    module = COMMANDS[NAMES.index(command)]
    ran = []
    monkeypatch.setattr(module, "run", ran.append)
    assert main([command, *arguments]) == 0
    assert len(ran) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_configuration_is_understood(path):
    parsed = parse_method(path.stem.replace("_", "-"), ["--config", str(path)])
    assert parsed.launch_arguments == []
    assert parsed.training.output_dir.startswith("outputs/")
