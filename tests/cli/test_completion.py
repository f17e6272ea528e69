"""The script of `completion` completes commands and options in bash; `env` shows versions."""

import json
import subprocess
from importlib.metadata import version

import pytest

from hf_reward_ext.cli.main import COMMANDS, main

ASK = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_shtab_hf_reward_ext 2> /dev/null
echo "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert main(["completion", "--shell", "bash"]) == 0
    path.write_text("\n".join(printed))
    return path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("hf-reward-ext j", {"judge"}),
        ("hf-reward-ext train f", {"fast-slow"}),
        ("hf-reward-ext train elhsr --loss_t", {"--loss_type"}),
        ("hf-reward-ext bon --num_c", {"--num_candidates"}),
        ("hf-reward-ext bon --rejected ''", {"worst", "random"}),
        ("hf-reward-ext judge --format rm", {"rm-bench"}),
    ],
)
def test_bash_completes(script, words, completed):
    run = subprocess.run(["bash", "-c", ASK.format(script=script, words=words)], capture_output=True, text=True)
    assert set(run.stdout.split()) == completed, run.stderr


def test_every_command_is_completed(script):
    names = {command.__name__.rpartition(".")[2].replace("_", "-") for command in COMMANDS} - {"completion"}
    ask = ASK.format(script=script, words="hf-reward-ext ''")
    run = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    assert names <= set(run.stdout.split())


def test_env_shows_what_a_report_needs(capsys):
    assert main(["env", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["transformers"] == version("transformers") and found["accelerator"]
    assert f"- torch: {version('torch')}" in shown.err
