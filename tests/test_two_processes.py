import re
from pathlib import Path

import pytest
from datasets import Dataset
from launched import launch
from method_trainers import CLASSES, trainer_of
from transformers import TrainingArguments
from two_processes import CAN_SHARD, ROWS, SHARDED, refused, train

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of two processes."""
    return launch(SCRIPT, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Results of one process."""
    return {method: train(method, tmp_path_factory.mktemp("one"), batch=8) for method in CLASSES}


def check_equal(found: dict, alone: dict) -> None:
    assert found["processes"] == 2
    assert found["weights"] == pytest.approx(alone["weights"], rel=1e-3, abs=1e-5)
    assert found["metrics"] == pytest.approx(alone["metrics"], rel=1e-3, abs=1e-5)
    assert (found["calibration"] or 0) == pytest.approx(alone["calibration"] or 0, rel=1e-2)
    for row, other in zip(found["logged"], alone["logged"], strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("method", CLASSES)
def test_two_processes_train_as_one_where_the_last_batch_is_not_full(ranks, method, alone):
    """accelerate repeats rows of the beginning there, so that both processes have as many."""
    for rank in ranks:
        check_equal(rank[method], alone[method])
        assert rank[method]["kind"] == "DistributedDataParallel"


def test_a_training_that_resumes_before_a_batch_that_is_not_full_ends_alike(ranks):
    for rank in ranks:
        assert rank["resumed"]["weights"] == rank["ELHSR"]["weights"]


@pytest.mark.skipif(not CAN_SHARD, reason="FSDP2 on CPUs needs events of their streams, which this torch lacks")
@pytest.mark.parametrize("method", SHARDED)
def test_sharded_weights_train_as_whole_ones(ranks, method, alone):
    for rank in ranks:
        check_equal(rank["sharded"][method], alone[method])
        assert rank["sharded"][method]["kind"].startswith("FSDP")


@pytest.mark.parametrize(("method", "settings", "message"), [
    ("ELHSR", {}, "`fsdp` must be left out: only a head of some thousand weights is trained"),
    ("SLA", dict(policy_loss="sft"), "`fsdp` must be left out with `policy_loss`"),
    ("SLA", dict(freeze_base=False), "`fsdp` must be left out with `policy_loss`"),
    ("SLA", dict(cache_hidden_states=True), "`fsdp` must be left out with `policy_loss`"),
])  # fmt: skip
def test_shards_that_there_would_not_be_are_refused(method, settings, message, tmp_path):
    assert re.search(message, refused(method, tmp_path, **settings))


@pytest.mark.parametrize("method", CLASSES)
def test_only_one_process_saves(method, tmp_path, monkeypatch):
    """All of them call `save_model`; a second writer would read and replace files that are not whole yet."""
    trainer = trainer_of(method, tmp_path, Dataset.from_list(ROWS))
    monkeypatch.setattr(TrainingArguments, "should_save", property(lambda args: False))
    trainer.save_model(f"{tmp_path}/saved")
    assert not Path(f"{tmp_path}/saved").exists()
    Path(f"{tmp_path}/saved").mkdir()
    (tmp_path / "saved" / "config.json").write_text("")  # as the other process leaves it for a moment
    trainer.save_model(f"{tmp_path}/saved")
    assert (tmp_path / "saved" / "config.json").read_text() == ""


def test_replicas_are_not_trained_where_shards_were_asked_for(ranks):
    for rank in ranks:
        assert "got 2 process(es) on 'cpu'. Leave `fsdp` out" in rank["refused"]
