import os
from argparse import ArgumentParser

import pytest

from hf_reward_ext.cli.parsing import add_command, expand


@pytest.fixture
def parser():
    return ArgumentParser()


def test_options_may_be_written_with_hyphens(parser):
    given = ["bon", "--num-candidates", "4", "--top-p=0.5", "a-b", "-1"]
    assert expand(given, parser.error) == ["bon", "--num_candidates", "4", "--top_p=0.5", "a-b", "-1"]


def test_a_file_stands_below_the_command_line(parser, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_REWARD_EXT_TEST", raising=False)
    path = tmp_path / "x.yaml"
    path.write_text(
        "env: {HF_REWARD_EXT_TEST: 1}\nseed: 7\nalpha: [0.5, -1]\nall: true\nsmall: false\nprompt: null\ntext: -a b\n"
    )
    expanded = expand(["demo", "--config", str(path), "--seed", "3"], parser.error)
    assert expanded == ["demo", "--seed=7", "--alpha", "0.5", "-1", "--all", "--text=-a b", "--seed", "3"]
    assert os.environ.pop("HF_REWARD_EXT_TEST") == "1"


@pytest.mark.parametrize(("text", "message"), [("[1, 2]", "does not map"), ("a: [", "is no YAML")])
def test_a_file_that_is_no_mapping_is_refused(text, message, parser, tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit, match="2"):
        expand(["demo", "--config", str(path)], parser.error)
    assert message in capsys.readouterr().err


def test_a_command_has_the_common_options_and_shows_its_examples(parser):
    commands = parser.add_subparsers()

    def add_options(command):
        command.add_argument("--high", action="store_true")

    add_command(commands, "fly", print, add_options, short="f", description="Flies.", examples=["--high"])
    args = parser.parse_args(["fly", "--json"])
    assert (args.run, args.json, args.debug, args.config, args.high) == (print, True, False, None, False)
    shown = commands.choices["fly"].format_help()
    assert "examples:\n  hf-reward-ext fly --high" in shown
    assert shown.index("--high") < shown.index("of every command")
