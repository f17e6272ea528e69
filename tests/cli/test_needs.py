"""Options that have no effect without another one are usage errors, on the command line and in a file."""

from dataclasses import fields

import pytest

from hf_reward_ext.cli import bon, generate, judge
from hf_reward_ext.cli.alpha_sweep import summarize
from hf_reward_ext.cli.bon_options import BonOptions
from hf_reward_ext.cli.generate import GenerateOptions
from hf_reward_ext.cli.judge import JudgeOptions

COMMANDS = {
    "bon": (bon, BonOptions, "--reward_model length --model m --prompt p"),
    "generate": (generate, GenerateOptions, "--model m --prompt p"),
    "judge": (judge, JudgeOptions, "--model m --prompt p --responses a b"),
}
VALUES = {
    "combine": "max_rank", "rejected": "random", "extract_answer": "a:b", "prompt_column": "q", "split": "test",
    "overwrite": True, "data_config": "c", "answer_pattern": "x", "prune_keep": 0.25, "step": 3, "depth": 1, "width": 3,
}  # fmt: skip
CASES = [
    (command, field.name)
    for command, (_, kind, _) in COMMANDS.items()
    for field in fields(kind)
    if "needs" in field.metadata
]


@pytest.mark.parametrize(("command", "name"), CASES)
def test_an_option_without_the_one_that_it_needs(command, name, tmp_path, capsys):
    module, _, line = COMMANDS[command]
    value = VALUES.get(name, 7)
    config = tmp_path / "options.yaml"
    config.write_text(f"{name}: {str(value).lower()}\n")
    for more in ([f"--{name}", *([] if value is True else [str(value)])], ["--config", str(config)]):
        with pytest.raises(SystemExit, match="2"):
            module.parse([*line.split(), *more])
        assert f"--{name} has no effect without --" in capsys.readouterr().err
    module.parse([*line.split(), "--seed", "1"])


def test_the_table_covers_the_options_that_belong_to_another_one():
    names = {name for _, name in CASES}
    assert {
        "width",
        "combine",
        "prune_keep",
        "resample_temperature",
        "keep",
        "rejected",
        "max_rows",
        "overwrite",
    } <= names


def test_weights_that_differ_little_keep_their_numbers():
    alphas = [1.0, 1.0000001, 0.5]
    summary = summarize([{"alphas": alphas, "kl": [1.0, 2.0, 3.0], "num_tokens": [1, 2, 3]}])
    assert summary["kl_alpha_1"] == 1.0 and summary["kl_alpha_1.0000001"] == 2.0 and summary["kl_alpha_0.5"] == 3.0
