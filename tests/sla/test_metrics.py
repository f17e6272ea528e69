import pytest
import torch

from hf_reward_ext.sla import autrc
from hf_reward_ext.sla.metrics import preference_metrics


def mask_of(*lengths, width):
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


def test_autrc_by_hand():
    # Prefix means of the chosen: 0, 1, 2, 1.5; of the rejected: 1, 1, 1, 1. A quarter of the shares each: 0, 1/2, 1, 1.
    chosen, rejected = torch.tensor([[0.0, 2.0, 4.0, 0.0]]), torch.ones(1, 4)
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert autrc(chosen, mask, rejected, mask) == pytest.approx((0 + 0.5 + 1 + 1) / 4)
    assert autrc(chosen, mask, rejected, mask, definition="token") == pytest.approx(2 / 4)


def test_autrc_counts_own_lengths_and_ignores_prompt_and_padding():
    torch.manual_seed(0)
    chosen, rejected = torch.randn(2, 5), torch.randn(2, 3)
    chosen_mask, rejected_mask = mask_of(5, 2, width=5), mask_of(2, 3, width=3)
    expected = 0.0
    for step in range(1, 101):
        for row in range(2):
            own = []
            for rewards, mask in ((chosen, chosen_mask), (rejected, rejected_mask)):
                length = int(mask[row].sum())
                own.append(rewards[row, : -(-step * length // 100)].double().mean().item())
            expected += (own[0] > own[1]) / 200
    assert autrc(chosen, chosen_mask, rejected, rejected_mask) == pytest.approx(expected)
    noise = torch.full((2, 3), 99.0)
    shifted = [torch.cat([noise, values], dim=-1) for values in (chosen, rejected)]
    masks = [torch.cat([torch.zeros(2, 3, dtype=torch.bool), mask], dim=-1) for mask in (chosen_mask, rejected_mask)]
    assert autrc(shifted[0], masks[0], shifted[1], masks[1]) == pytest.approx(expected)


def test_logged_metrics_by_hand():
    chosen, rejected = torch.tensor([[3.0, 1.0, 1.0, 0.0]]), torch.tensor([[2.0, 2.0, 5.0, 5.0]])
    metrics = preference_metrics(chosen, mask_of(4, width=4), rejected, mask_of(2, width=4))
    assert metrics["margin"] == pytest.approx(5 / 4 - 2)
    assert (metrics["chosen_reward"], metrics["rejected_reward"]) == (1.25, 2.0)
    assert metrics["accuracy"] == 0 and metrics["last_token_accuracy"] == 0
    assert metrics["prefix_accuracy_25"] == 1.0  # 3 against 2
    assert metrics["prefix_accuracy_50"] == 0.5  # (3 + 1) / 2 against 2
    assert metrics["token_accuracy_50"] == 1.0  # the first of two aligned positions
    assert metrics["token_accuracy_100"] == 0.5
    assert autrc(chosen, mask_of(4, width=4), rejected, mask_of(2, width=4)) == metrics["autrc"]


def test_refusals():
    ones, mask = torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="'prefix' or 'token'"):
        autrc(ones, mask, ones, mask, definition="area")
    with pytest.raises(ValueError, match="Row 0 of a mask marks no token"):
        autrc(ones, mask, ones, ~mask)
