"""What commands may write where: never an input, never a foreign file, and nothing before all is checked."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_files import read_rows, write_rows

from hf_reward_ext.cli import bon, evaluate, generate, judge, label_steps
from hf_reward_ext.cli.main import main

PAIRS = [{"prompt": f"w{n} w5", "chosen": " w6 w7" if n % 3 else " w6", "rejected": " w8 w9"} for n in range(9)]


@pytest.fixture
def place(tmp_path, folder, monkeypatch):
    """A working directory with inputs of every command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # of another working directory
    for name in ("policy", "head"):
        shutil.copytree(folder / name, tmp_path / name)
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"w{n} w5"} for n in range(5)])
    write_rows(tmp_path / "pairs.jsonl", PAIRS)
    write_rows(tmp_path / "responses.jsonl", [{"prompt": f"w{n}", "completion": " w5\n\n w6"} for n in range(3)])
    (tmp_path / "mine.py").write_text(
        "def shortest(prompts, completions):\n    return [-len(text) for text in completions]\n"
    )
    return tmp_path


COMMANDS = {
    "generate": "generate --model policy --data prompts.jsonl --max_new_tokens 3 --batch_size 2 --output",
    "bon": "bon --model policy --reward_model mine:shortest --data prompts.jsonl --max_new_tokens 3 --num_candidates 2 "
    "--batch_size 2 --output",
    "label-steps": "label-steps --model policy --scorer mine:shortest --threshold -3 --data responses.jsonl "
    "--max_new_tokens 3 --num_rollouts 2 --batch_size 2 --output",
    "judge": "judge --model policy --verdicts w20 w21 --mode fast --data pairs.jsonl --batch_size 4 --output",
    "evaluate": "evaluate --scorer mine:shortest --data pairs.jsonl --output",
}


def snapshot(folder):
    return {
        path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and "pycache" not in str(path)
    }


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize("target", ["input", "absolute", "link", "folder", "hard link"])
def test_inputs_links_and_folders_are_never_replaced(command, overwrite, target, place, capsys):
    arguments = COMMANDS[command].split()
    data = arguments[arguments.index("--data") + 1]
    suffix = "json" if command == "evaluate" else "jsonl"
    names = {"input": data, "absolute": str(place / data)}
    name = names.get(target, f"other.{suffix}")
    if target == "link":
        (place / name).symlink_to(place / data)
    elif target == "folder":
        (place / name).mkdir()
    elif target == "hard link":
        os.link(place / data, place / name)
    before = snapshot(place)
    assert main([*arguments, name, *overwrite]) == 1
    assert "must be" in capsys.readouterr().err
    assert snapshot(place) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--data": "missing.jsonl"}, "there is no file"),
        ({"--model": "polic", "--scorer": "mine:longest"}, "polic' |has no attribute 'longest'"),
        ({"--model": "outputs/x/y", "--scorer": "outputs/x/y"}, "there is no folder"),
    ],
)
def test_a_mistake_beside_overwrite_costs_nothing(command, change, message, place, capsys):
    arguments = COMMANDS[command].split()
    for option, value in change.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
    output = place / ("old.json" if command == "evaluate" else "old.jsonl")
    output.write_text("results of before\n")
    before = snapshot(place)
    assert main([*arguments, output.name, "--overwrite"]) == 1
    error = capsys.readouterr().err
    assert any(part.strip() in error for part in message.split("|")), error
    assert snapshot(place) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_foreign_file_stays_unless_it_may_be_replaced(command, place, capsys):
    output = place / ("old.json" if command == "evaluate" else "old.jsonl")
    output.write_text("mine\n")
    assert main([*COMMANDS[command].split(), output.name]) == 1
    assert "overwrite" in capsys.readouterr().err and output.read_text() == "mine\n"
    assert main([*COMMANDS[command].split(), output.name, "--overwrite"]) == 0
    assert output.read_text() != "mine\n"
    written = snapshot(place)
    assert main([*COMMANDS[command].split(), output.name]) == 0  # finished: left alone
    assert snapshot(place) == written


@pytest.mark.parametrize("command", COMMANDS)
def test_another_spelling_of_the_inputs_is_the_same_run(command, place, monkeypatch):
    arguments = COMMANDS[command].split()
    output = "out.json" if command == "evaluate" else "out.jsonl"
    assert main([*arguments, output]) == 0
    for name in ("policy", "prompts.jsonl", "pairs.jsonl", "responses.jsonl"):
        arguments = [str(place / name) if argument == name else argument for argument in arguments]
    for module in (bon, generate, judge, label_steps):
        monkeypatch.setattr(module, "_prepare", lambda *_: pytest.fail("there is nothing to do"))
    monkeypatch.setattr(evaluate, "_evaluate", lambda *_: pytest.fail("there is nothing to do"))
    before = snapshot(place)
    assert main([*arguments, str(place / output)]) == 0
    assert snapshot(place) == before


@pytest.mark.parametrize("command", ["generate", "judge"])
def test_a_model_that_changed_does_not_finish_the_file_of_another(command, place, capsys):
    assert main([*COMMANDS[command].split(), "out.jsonl"]) == 0
    weights = place / "policy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert main([*COMMANDS[command].split(), "out.jsonl"]) == 1
    assert "with other settings (model=" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bon", "evaluate"])
def test_a_function_that_changed_does_not_either(command, place, capsys):
    output = "out.json" if command == "evaluate" else "out.jsonl"
    assert main([*COMMANDS[command].split(), output]) == 0
    (place / "mine.py").write_text((place / "mine.py").read_text() + "# changed\n")
    assert main([*COMMANDS[command].split(), output]) == 1
    assert "overwrite" in capsys.readouterr().err


def test_files_of_a_model_are_inputs_too(place, capsys):
    arguments = ["evaluate", "--scorer", "head", "--data", "pairs.jsonl", "--overwrite"]
    before = snapshot(place)
    for name in ("config.json", "README.md", "model.safetensors"):
        assert main([*arguments, "--output", f"head/{name}"]) == 1
        assert "must be another file than the inputs" in capsys.readouterr().err
    assert main([*arguments, "--output", "a.json", "--markdown", "./a.json"]) == 1
    assert "must be two files" in capsys.readouterr().err
    assert snapshot(place) == before


FILES = ["--rows", "r.jsonl", "--markdown", "t.md", "--plot", "p.png"]


@pytest.mark.parametrize("dies_at", range(0, 14))
def test_an_evaluation_that_was_killed_ends_alike(dies_at, place, monkeypatch):
    from hf_reward_ext.base.saving import atomic
    from hf_reward_ext.cli import results

    monkeypatch.setattr(results, "_SECONDS", -1)  # a part for every call
    arguments = [*COMMANDS["evaluate"].split(), "out.json", *FILES, "--batch_size", "4"]
    assert main(arguments) == 0
    names = ["out.json", "r.jsonl", "t.md", "p.png"]
    whole = {name: (place / name).read_bytes() for name in names}
    for name in names:
        (place / name).unlink()
    plain, count = os.replace, iter(range(100))

    def killed(*args):
        if next(count) >= dies_at:
            raise SystemExit
        return plain(*args)

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, "replace", killed)
        try:
            main(arguments)
        except SystemExit:
            pass
    assert main(arguments) == 0
    assert {name: (place / name).read_bytes() for name in names} == whole
    assert sorted(path.name for path in place.glob("*.parts")) == []


def test_scores_survive_an_interrupt(place, monkeypatch):
    (place / "mine.py").write_text(
        "from pathlib import Path\n"
        "def shortest(prompts, completions):\n"
        "    calls = Path('calls')\n"
        "    calls.write_text(calls.read_text() + 'x' if calls.exists() else 'x')\n"
        "    if Path('stop').exists() and len(calls.read_text()) == 3:\n"
        "        raise KeyboardInterrupt\n"
        "    return [-len(text) for text in completions]\n"
    )
    (place / "stop").touch()
    arguments = [*COMMANDS["evaluate"].split(), "out.json", "--batch_size", "4"]
    assert main(arguments) == 1 and not (place / "out.json").exists()
    (place / "stop").unlink()
    assert main(arguments) == 0
    assert len((place / "calls").read_text()) == 3 + 3  # two of five were kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "x.xyz"], "--plot must end with one of .png"),
        (["--confidence", "2"], "`--confidence` must be a number above 0 and below 1"),
        (["--seed", "-1"], "`--seed` must be an integer of at least 0, got -1"),
    ],
)
def test_what_cannot_be_written_or_computed_is_a_usage_error(arguments, message, place, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "--scorer", "mine:shortest", "--data", "pairs.jsonl", *arguments])
    assert message in capsys.readouterr().err


def test_a_locale_that_is_not_utf_8(place):
    write_rows(place / "prompts.jsonl", [{"frage ü": "w3 ü 😀"}])
    settings = "model: policy\ndata: prompts.jsonl\nprompt_column: frage ü\nmax_new_tokens: 2\noutput: out.jsonl\n"
    (place / "x.yaml").write_bytes(settings.encode())
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    line = [sys.executable, "-W", "ignore", "-m", "hf_reward_ext", "generate", "--config", "x.yaml", "--json"]
    run = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["num_rows"] == 1
    assert read_rows(place / "out.jsonl")[0]["prompt"] == "w3 ü 😀"
