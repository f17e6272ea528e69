import subprocess

import pytest

from hf_reward_ext.cli import launch as launching
from hf_reward_ext.cli.main import main


@pytest.fixture
def started(monkeypatch):
    """What accelerate was to start, in place of starting it."""
    commands = []
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(launching, "launch_command", commands.append)
    return commands


def test_what_is_not_ours_goes_to_accelerate(started, tmp_path):
    config = tmp_path / "x.yaml"
    config.write_text("beta: 0.5\nmixed_precision: 'no'\n")
    arguments = ["--config", str(config), "--num_processes", "2", "--output_dir", "out", "--json"]
    assert main(["train", "genarm", *arguments]) == 0
    [command] = started
    assert command.num_processes == 2
    assert command.mixed_precision == "no"
    assert (command.module, command.training_script) == (True, "hf_reward_ext.cli.main")
    own = ["train", "genarm", "--config", str(config), "--output_dir", "out", "--json"]
    assert command.training_script_args == own


def test_names_of_accelerate_configs_are_those_of_trl(started):
    assert main(["train", "elhsr", "--accelerate_config", "multi_gpu"]) == 0
    assert started[0].config_file.endswith("trl/accelerate_configs/multi_gpu.yaml")
    with pytest.raises(ValueError, match=r"--accelerate_config` must be a file or one of .*'zero3'.*got 'none'"):
        launching.resolve_config(["--accelerate_config", "none"])


def test_what_accelerate_does_not_know_either_is_refused(started, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "elhsr", "--num_process_groups", "2"])
    assert "unrecognized arguments: --num_process_groups" in capsys.readouterr().err
    assert not started


def test_a_launched_process_trains_and_takes_nothing_more(started, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(SystemExit, match="2"):
        main(["train", "elhsr", "--num_processes", "2"])
    assert "unrecognized arguments: --num_processes 2" in capsys.readouterr().err
    assert not started


def test_a_failed_process_is_reported(started, monkeypatch, capsys):
    def fail(command):
        raise subprocess.CalledProcessError(1, "x")

    monkeypatch.setattr(launching, "launch_command", fail)
    assert main(["train", "elhsr", "--num_processes", "1"]) == 1
    assert capsys.readouterr().err.endswith("error: A training process failed; see its output above.\n")


def test_several_accelerators_are_used_as_accelerate_would(monkeypatch):
    monkeypatch.setattr(launching.os.path, "isfile", lambda path: False)
    monkeypatch.setattr(launching.torch.accelerator, "is_available", lambda: True)
    for count, wanted in ((1, False), (2, True)):
        monkeypatch.setattr(launching.torch.accelerator, "device_count", lambda count=count: count)
        assert launching.wants_launch([]) is wanted
    assert launching.wants_launch(["--num_processes", "1"])
