"""A checkpoint that was being saved when its training was killed is recognized, whatever is missing of it."""

import shutil

import pytest

from hf_reward_ext.cli.checkpoints import find_checkpoint, find_flaw
from hf_reward_ext.cli.main import main

STEPS = ["--report_to", "none", "--disable_tqdm", "true", "--save_steps", "1", "--seed", "1"]


def train(folder, output, *more):
    common = ["--model_name_or_path", f"{folder}/policy", "--dataset_name", f"{folder}/pairs", "--output_dir", output]
    return main(["train", "genarm", *map(str, [*common, *STEPS, *more])])


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A training with the checkpoints 1, 2 and 3."""
    output = tmp_path_factory.mktemp("trained")
    assert train(folder, output, "--max_steps", "3") == 0
    return output


@pytest.fixture
def output(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "out")


FILES = ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["cut", "empty"])
def test_a_cut_file_is_found(name, how, output, caplog):
    newest = output / "checkpoint-3"
    assert find_flaw(newest) is None
    data = (newest / name).read_bytes()
    (newest / name).write_bytes(data[: len(data) // 2] if how == "cut" else b"")
    assert name in find_flaw(newest)
    assert find_checkpoint(output, "last") == str(output / "checkpoint-2")
    assert f"checkpoint-3 is skipped, because its {name} is cut" in caplog.text
    with pytest.raises(ValueError, match=rf"complete checkpoint, but its {name} is cut. Resume from .*checkpoint-2'"):
        find_checkpoint(output, str(newest))


@pytest.mark.parametrize("kept", range(len(FILES)))
def test_a_folder_that_was_not_finished_is_found(kept, output):
    """The state is written last, so whatever else is there, a folder without it is not whole."""
    newest = output / "checkpoint-3"
    for name in [FILES[0], *FILES[kept + 1 :]]:
        (newest / name).unlink(missing_ok=True)
    assert find_flaw(newest)
    assert find_checkpoint(output, "true").endswith("checkpoint-2")


def test_other_answers(output, tmp_path):
    assert find_checkpoint(output, None) is None and find_checkpoint(output, "false") is None
    (output / "checkpoint-best").mkdir()
    (output / "checkpoint-10").mkdir()  # empty, and newer by its number
    assert find_checkpoint(output, "last").endswith("checkpoint-3")
    for step in (1, 2, 3):
        (output / f"checkpoint-{step}" / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match=r"each of the 4 in .* is broken. Leave it out"):
        find_checkpoint(output, "last")
    with pytest.raises(FileNotFoundError, match="must find a checkpoint, but .* has none"):
        find_checkpoint(tmp_path / "none", "last")


def test_a_training_resumes_from_the_newest_whole_one(folder, trained, output, capsys):
    whole = (trained / "model.safetensors").read_bytes()
    (output / "checkpoint-3" / "optimizer.pt").write_bytes(b"")
    (output / "model.safetensors").unlink()
    assert train(folder, output, "--max_steps", "3", "--resume_from_checkpoint", "last") == 0
    assert "checkpoint-3 is skipped" in capsys.readouterr().err
    assert (output / "model.safetensors").read_bytes() == whole
