"""What we override or read of TRL's private side; a new TRL that changes it fails here first."""

import inspect

from trl import RewardTrainer
from trl.trainer.base_trainer import _BaseTrainer


def test_reward_trainer_prepares_datasets_through_one_method():
    assert list(inspect.signature(RewardTrainer._prepare_dataset).parameters) == [
        "self", "dataset", "processing_class", "args", "dataset_name",
    ]  # fmt: skip
    assert "self._prepare_dataset(" in inspect.getsource(RewardTrainer.__init__)


def test_signature_columns_are_set_in_one_method():
    assert "_signature_columns" in inspect.getsource(RewardTrainer._set_signature_columns_if_needed)


def test_metrics_are_averaged_by_log():
    source = inspect.getsource(RewardTrainer.log)
    assert "self._metrics[mode]" in source and "eval_" in source


def test_card_seam():
    assert list(inspect.signature(_BaseTrainer.create_model_card).parameters) == [
        "self", "model_name", "dataset_name", "tags",
    ]  # fmt: skip
    for name in ("_tag_names", "_name", "_paper"):
        assert hasattr(RewardTrainer, name)
