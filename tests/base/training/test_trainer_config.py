import pytest
import torch
from trl import RewardConfig

from hf_reward_ext.base.training.trainer_config import BaseRewardConfig


def test_trains_in_float32_on_a_cpu(tmp_path):
    assert not BaseRewardConfig(str(tmp_path), use_cpu=True).bf16
    assert BaseRewardConfig(str(tmp_path), use_cpu=True, bf16=True).bf16


@pytest.mark.skipif(torch.accelerator.is_available(), reason="TRL's default is right on an accelerator")
def test_trl_itself_refuses_to_start_there(tmp_path):
    with pytest.raises(ValueError, match="bf16"):
        RewardConfig(str(tmp_path))
