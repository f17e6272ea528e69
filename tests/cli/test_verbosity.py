"""`--quiet` and `--log_level` of every command."""

import logging
import re
import warnings
from pathlib import Path

import pytest
from datasets import are_progress_bars_disabled
from transformers.utils.logging import is_progress_bar_enabled

from hf_reward_ext.cli import demo
from hf_reward_ext.cli.main import COMMANDS, main
from hf_reward_ext.cli.train import parse
from hf_reward_ext.cli.verbosity import LEVELS, LIBRARIES

TRAINING = (
    "--model_name_or_path {0}/policy --dataset_name {0}/pairs --output_dir {1}/out --max_steps 2 --report_to none"
)
LINES = {
    "bon": "bon --reward_model {0}/head --data {0}/prompts.jsonl --max_new_tokens 2 --output {1}/rows.jsonl",
    "generate": "generate --model {0}/policy --data {0}/prompts.jsonl --max_new_tokens 2 --batch_size 2",
    "train": f"train elhsr {TRAINING} --logging_steps 1",
}
WITHOUT_HANDLERS = ("hf_reward_ext", "trl", "peft", "accelerate")  # the others print by themselves
COMMAND_NAMES = [command.__name__.rpartition(".")[2].replace("_", "-") for command in COMMANDS]


def levels():
    return {name: logging.getLogger(name).level for name in (*LIBRARIES, "hf_reward_ext.cli")}


@pytest.mark.parametrize("name", LINES)
def test_a_quiet_command_prints_results_only(name, folder, tmp_path, capsys):
    before = levels()
    assert main([*LINES[name].format(folder, tmp_path).split(), "--quiet"]) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if "plain text" not in line] == []  # a warning
    assert shown.out and "%|" not in shown.out and "'loss'" not in shown.out
    assert is_progress_bar_enabled() and not are_progress_bars_disabled() and levels() == before


def test_every_bar_follows_the_setting_of_transformers():
    modules = [path.read_text() for path in (Path(__file__).parents[2] / "hf_reward_ext").rglob("*.py")]
    imports = [line for text in modules for line in text.splitlines() if re.match(r"\s*(from|import) .*\btqdm", line)]
    assert set(imports) == {"from transformers.utils.logging import tqdm"}


def test_without_the_option_there_is_a_bar(folder, tmp_path, capsys):
    assert main(LINES["bon"].format(folder, tmp_path).split()) == 0
    assert "%|" in capsys.readouterr().err


@pytest.fixture
def messages(monkeypatch, capsys):
    """Function that returns which messages `demo` prints with some options, each named by its logger and level."""

    def run(options):
        for name in LIBRARIES:
            print(name, logging.getLogger(f"{name}.part").getEffectiveLevel())
            for level in LEVELS if name in WITHOUT_HANDLERS else ():
                logging.getLogger(f"{name}.part").log(getattr(logging, level.upper()), "<%s %s>", name, level)
        logging.getLogger("hf_reward_ext.cli.prompts").info("<note>")
        warnings.warn("<python>", stacklevel=2)

    monkeypatch.setattr(demo, "run", run)

    def shown(*options):
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warnings, "showwarning", lambda message, *_: print(message))
            warnings.simplefilter("default")
            assert main(["demo", *options]) == 0
        return capsys.readouterr()

    return shown


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_holds_for_this_library_and_those_it_uses(level, messages):
    before = levels()
    printed = messages("--log_level", level)
    for name in LIBRARIES:
        assert f"{name} {getattr(logging, level.upper())}\n" in printed.out
        for other in LEVELS if name in WITHOUT_HANDLERS else ():
            assert printed.err.count(f"<{name} {other}>") == (LEVELS.index(other) >= LEVELS.index(level))
    assert ("<note>" in printed.err) == (level in ("debug", "info"))
    assert ("<python>" in printed.out) == (level != "error")
    assert levels() == before


def test_notes_are_shown_unless_the_command_is_quiet(messages):
    assert "<note>" in messages().err
    assert "<note>" not in messages("--quiet").err
    assert "<note>" in messages("--quiet", "--log_level", "info").err


def test_a_file_sets_them(messages, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("quiet: true\n")
    assert "<note>" not in messages("--config", str(file)).err
    file.write_text("log_level: error\n")
    assert "warning>" not in messages("--config", str(file)).err


@pytest.mark.parametrize(
    ("text", "message"),
    [("log_level: loud", "must be one of"), ("quiet: 3", "`quiet` in .* must be true or false")],
)
def test_a_wrong_value_in_a_file_is_an_invalid_command_line(text, message, tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--config", str(tmp_path / "options.yaml")])
    assert "--config" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in COMMAND_NAMES if name != "train"])
def test_every_command_has_both(name, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([name, "--quiet", "--log_level", "loud"])
    assert "argument --log_level: invalid choice: 'loud'" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "level"), [([], None), (["--log_level", "detail"], "detail")])
def test_a_training_has_the_level_of_its_arguments(given, level, tmp_path):
    (tmp_path / "x.yaml").write_text("quiet: true\njson: true\n")
    _, flags = parse(["elhsr", "--config", str(tmp_path / "x.yaml"), *given])
    assert (flags.quiet, flags.json, flags.log_level, flags.debug) == (True, True, level, False)
