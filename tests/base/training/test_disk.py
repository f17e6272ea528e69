"""A disk that gets full while a training saves: named, with what to do."""

import errno
import shutil

import pytest
from datasets import Dataset
from method_trainers import CLASSES, trainer_of
from safetensors import SafetensorError

from hf_reward_ext.base.training.disk import naming_folder

ROWS = Dataset.from_list([{"prompt": f"w{n}", "chosen": " w3 w5", "rejected": " w9"} for n in range(1, 5)])
FULL = {
    "the system": OSError(errno.ENOSPC, "No space left on device"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "tokenizers": Exception("No space left on device (os error 28)"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    "a stream": RuntimeError("basic_ios::clear: iostream error"),
}
OTHERS = [OSError(errno.ENOENT, "No such file"), RuntimeError("out of memory"), KeyError("w3"), KeyboardInterrupt()]


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_disk_is_named_with_what_to_do(error):
    with (
        pytest.raises(OSError, match="training could not be saved in 'out'.*make room.*resume") as raised,
        naming_folder("out"),
    ):
        raise error
    assert raised.value.errno == errno.ENOSPC and raised.value.__cause__ is error


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as raised, naming_folder("out"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("method", CLASSES)
def test_a_disk_without_room_is_refused_before_the_first_step(method, tmp_path, monkeypatch):
    trainer = trainer_of(method, tmp_path, ROWS)
    monkeypatch.setattr(trainer, "training_step", lambda *_: pytest.fail("a step was made"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=7))
    with pytest.raises(OSError, match="`output_dir` must have room for the trained weights, of .* MiB left"):
        trainer.train()
