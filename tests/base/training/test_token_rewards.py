import pytest
import torch

from hf_reward_ext.base.training.token_rewards import gather_token_logps, masked_mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gathered_log_probabilities_equal_log_softmax(dtype):
    logits = torch.randn(3, 5, 11).to(dtype)
    targets = torch.randint(0, 11, (3, 5))
    wide = torch.promote_types(dtype, torch.float32)
    expected = logits.to(wide).log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    torch.testing.assert_close(gather_token_logps(logits, targets), expected)


def test_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool)).item() == 0
