import errno
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from method_trainers import trainer_of
from quantized_weight import Quantized

from hf_reward_ext.elhsr import ELHSRModelConfig
from hf_reward_ext.elhsr.feature_cache import FeatureCache

GROUPS = Dataset.from_list([{"prompt_ids": [3, 4], "completion_ids": [[5, 2], [6, 2]], "labels": [1.0, 0.0]}])
CONFIG = ELHSRModelConfig(hidden_size=4, num_layers=1)


def fingerprint(weight, folder):
    policy = SimpleNamespace(named_parameters=lambda: [("layer.weight", weight)])
    before = set(folder.glob("*.bin"))
    FeatureCache(GROUPS, CONFIG, policy, folder)
    return (set(folder.glob("*.bin")) - before) or before


def test_a_quantized_policy_has_a_fingerprint_of_its_integers(tmp_path):
    data, scale = torch.arange(6, dtype=torch.int8).view(2, 3), torch.ones(2)
    weight = Quantized(data, scale)
    with pytest.raises(NotImplementedError):
        weight.sum()
    first = fingerprint(weight, tmp_path)
    assert fingerprint(Quantized(data.clone(), scale), tmp_path) == first
    assert fingerprint(Quantized(data + 1, scale), tmp_path) != first
    assert len(list(tmp_path.glob("*.bin"))) == 2


@pytest.mark.parametrize("weight", [torch.empty(2, 3, device="meta"), torch.zeros(2, 3).to(torch.float8_e4m3fn)])
def test_weights_without_a_sum_count_by_type_and_shape(weight, tmp_path):
    assert len(fingerprint(weight, tmp_path)) == 1


def test_room_on_the_disk_is_taken_before_a_page_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    weight = torch.ones(2, 3)
    [path] = fingerprint(weight, tmp_path)
    assert path.stat().st_size == 4 * 8 * torch.bfloat16.itemsize and path.stat().st_blocks > 0
    monkeypatch.setattr("os.posix_fallocate", full)
    policy = SimpleNamespace(named_parameters=lambda: [("layer.weight", weight)])
    with pytest.raises(OSError, match="feature cache needs .* MiB in .*feature_cache_dir"):
        FeatureCache(GROUPS, CONFIG, policy, tmp_path / "full")
    assert not list((tmp_path / "full").glob("*"))


ROWS = [{"prompt": f"w{n}", "chosen": " w3 w5", "rejected": f" w9 w{n % 5}"} for n in range(1, 17)]


@pytest.mark.parametrize("standardize", [False, True])
def test_a_resumed_training_ends_with_the_same_weights(standardize, tmp_path):
    def build(folder):
        return trainer_of(
            "ELHSR", tmp_path / folder, Dataset.from_list(ROWS), Dataset.from_list(ROWS), max_steps=6,
            save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2, save_total_limit=None,
            load_best_model_at_end=True, learning_rate=1e-2, early_stopping_patience=None, standardize=standardize,
        )  # fmt: skip

    whole = build("whole")
    whole.train()
    for step in (2, 4):
        resumed = build("whole")
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert resumed.state.global_step == 6
        torch.testing.assert_close(resumed.model.linear.weight, whole.model.linear.weight, atol=0, rtol=0)
        assert resumed.model.config.calibration == whole.model.config.calibration
        assert resumed.state.best_metric == whole.state.best_metric


def test_rows_of_another_trainer_are_refused(tmp_path):
    first = trainer_of("ELHSR", tmp_path, Dataset.from_list(ROWS))
    with pytest.raises(ValueError, match="must be rows of this trainer, got rows of another one"):
        trainer_of("ELHSR", tmp_path, first.train_dataset)
