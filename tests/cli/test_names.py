"""Names that can be no model fail at once, without the Hub."""

import json
import sys

import pytest
from cli_files import write_rows

from hf_reward_ext.cli.functions import load_function
from hf_reward_ext.cli.main import main
from hf_reward_ext.cli.models import check_name, fingerprint
from hf_reward_ext.cli.options import is_function


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("shortest", ValueError, "there is no folder of that name. For a function write MODULE:shortest"),
        ("confidense", ValueError, "there is no folder of that name. The training-free reward is 'confidence'"),
        ("outputs/head", FileNotFoundError, "there is no folder 'outputs/head'. Check the path"),
        ("./head", FileNotFoundError, "there is no folder"),
        ("/no/head", FileNotFoundError, "there is no folder"),
        ("~/no-such-head", FileNotFoundError, "there is no folder"),
        ("a/b/c", FileNotFoundError, "there is no folder"),
        ("file.txt", FileNotFoundError, "there is no folder 'file.txt'"),
        ("empty", FileNotFoundError, "it has no config.json or adapter_config.json"),
        ("", FileNotFoundError, "there is no folder ''"),
    ],
)
def test_what_cannot_be_a_model_is_refused(name, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(error, match=message):
        check_name(name, "--reward_model", functions=True)


def test_what_may_be_one_passes(folder):
    for name in (None, f"{folder}/policy", "Qwen/Qwen3-0.6B", "hf_reward_ext/demo-policy"):
        check_name(name, "--model")
    check_name("my_rewards:shortest", "--reward_model", functions=True)
    with pytest.raises(ValueError, match="`--model` must be a folder or OWNER/NAME on the Hub, got 'm:f'"):
        check_name("m:f", "--model")


@pytest.mark.parametrize(
    ("name", "is_one"), [("a:b", True), ("a.b:c", True), ("a/b", False), ("C:\\x", False), ("a:", False), (None, False)]
)
def test_functions_are_recognized(name, is_one):
    assert is_function(name) is is_one


def test_a_function_without_a_policy_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bon", "--reward_model", "m:f", "--prompt", "a"])
    assert "--model is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--label", "os:getcwd", "`--label` must take 2 arguments, but 'os:getcwd' does not"),
        ("--label", "os:name", "`--label` must be a function, got 'os:name', a `str`"),
        ("--label", "no_such_module:f", "No module named 'no_such_module'"),
        ("--reward_model", "helpers:nothing", "takes no completions"),
    ],
)
def test_functions_are_checked_before_a_model_is_loaded(option, name, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helpers.py").write_text(
        "def nothing():\n    return 1\ndef zero(prompts, completions):\n    return [0]\n"
    )
    arguments = {"--model": f"{folder}/policy", "--reward_model": "helpers:zero", "--prompt": "w3", option: name}
    assert main(["bon", *[word for pair in arguments.items() for word in pair]]) == 1
    shown = capsys.readouterr().err
    assert message in shown and "Loading weights" not in shown


def test_modules_of_the_working_directory_do_not_hide_installed_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("colorsys", "only_here"):  # the first is of Python, and not imported by us
        (tmp_path / f"{name}.py").write_text("def rgb_to_hsv(*_):\n    return 'mine'\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert load_function("colorsys:rgb_to_hsv", "--label")(1, 0, 0) != "mine"
    assert load_function("only_here:rgb_to_hsv", "--label")() == "mine"


def test_fingerprints_are_of_content_and_of_the_base(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    assert fingerprint("policy") == fingerprint(str(folder / "policy")) == fingerprint("./pairs/../policy")
    assert fingerprint("head")["base"] == fingerprint("policy")
    assert fingerprint("hf_reward_ext/demo-policy")["files"] != fingerprint("policy")["files"]


def test_prompts_are_all_checked_before_a_model_is_loaded(folder, tmp_path, capsys):
    rows = [{"prompt": "w3"}, {"prompt": "w4"}]
    for value, message in ((None, "got None"), ("", "must have text"), (3, "must be text"), ([], "empty list")):
        path = tmp_path / "prompts.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": value}]))
        if value == 3 or value == []:
            continue  # a column of two types is refused by the reader of the file
        assert main(["generate", "--model", f"{folder}/policy", "--data", str(path)]) == 1
        shown = capsys.readouterr().err
        assert "Row 2 of the prompt data: `prompt`" in shown and message in shown and "Loading weights" not in shown
    long = write_rows(tmp_path / "long.jsonl", [*rows, {"prompt": "w3 " * 250}])
    assert main(["generate", "--model", f"{folder}/policy", "--data", long, "--max_new_tokens", "10"]) == 1
    assert "Row 2 of the prompt data: the prompt must leave room for `--max_new_tokens 10`" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate", "bon"])
def test_one_line_names_the_form_of_prompts(command, folder, capsys):
    line = [command, "--model", f"{folder}/policy", "--prompt", "w3", "--max_new_tokens", "2"]
    line += ["--reward_model", f"{folder}/head", "--num_candidates", "2"] if command == "bon" else []
    for more, message in (([], "sent as plain text"), (["--chat"], "through the tokenizer's chat template")):
        assert main([*line, *more]) == 0
        assert capsys.readouterr().err.count(message) == 1
    assert main([*line, "--no_chat"]) == 0
    assert "chat" not in capsys.readouterr().err


def test_a_relative_and_an_absolute_base_are_one(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    line = ["bon", "--reward_model", "head", "--prompt", "w3", "--max_new_tokens", "2", "--num_candidates", "2"]
    for name in ("policy", "./policy", f"{folder}/policy"):
        assert main([*line, "--model", name]) == 0
