import json
import math

import pytest
import torch
from safetensors.torch import load_file

from hf_reward_ext.base.training.loss import total_loss
from hf_reward_ext.sla.policy_losses import dpo_loss, sft_loss, simpo_loss
from hf_reward_ext.sla.token_losses import LOSSES, token_bt_loss

AUTHORS_NAMES = {
    "sequence_bt": "seqwise_btmodel",
    "token_bt": "tokenwise_btmodel",
    "sequence_ce": "seqwise_crossentropy",
    "token_ce": "tokenwise_crossentropy",
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_the_authors(fixtures_dir, name):
    numbers = load_file(fixtures_dir / "sla_outputs.safetensors")
    expected = json.loads((fixtures_dir / "sla.json").read_text())["losses"][AUTHORS_NAMES[name]]
    (chosen, rejected), (chosen_mask, rejected_mask) = (
        numbers["sr_logits"][..., 0].chunk(2),
        (numbers["labels"] != -100).chunk(2),
    )
    assert total_loss(LOSSES[name](chosen, chosen_mask, rejected, rejected_mask)).item() == pytest.approx(
        expected, abs=1e-9
    )


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


# Prompt positions hold nonsense; chosen tokens are (1, 3), the one rejected token is 2.
CHOSEN = torch.tensor([[9.0, 1.0, 3.0]]), torch.tensor([[False, True, True]])
REJECTED = torch.tensor([[9.0, 2.0, 9.0]]), torch.tensor([[False, True, False]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sequence_bt", -math.log(sigmoid(2 - 2))),
        ("sequence_ce", -(math.log((sigmoid(1) + sigmoid(3)) / 2) + math.log(1 - sigmoid(2))) / 2),
        ("token_bt", -(math.log(sigmoid(1 - 2)) + math.log(sigmoid(3 - 2))) / 2),  # 2 is repeated
        ("token_ce", -((math.log(sigmoid(1)) + math.log(sigmoid(3))) / 2 + math.log(1 - sigmoid(2))) / 2),
    ],
)
def test_losses_by_hand(name, expected):
    assert total_loss(LOSSES[name](*CHOSEN, *REJECTED)).item() == pytest.approx(expected, abs=1e-6)


def test_scale_and_margin_of_token_bt():
    expected = -(math.log(sigmoid(2 * (1 - 2 - 0.5))) + math.log(sigmoid(2 * (3 - 2 - 0.5)))) / 2
    for margin in (0.5, torch.tensor([0.5])):
        found = total_loss(token_bt_loss(*CHOSEN, *REJECTED, scale=2.0, margin=margin)).item()
        assert found == pytest.approx(expected, abs=1e-6)


def test_token_bt_is_a_mean_over_pairs_of_different_lengths():
    chosen = torch.tensor([[1.0, 3.0, 0.0], [4.0, 4.0, 4.0]])
    chosen_mask = torch.tensor([[True, True, False], [True, True, True]])
    rejected, rejected_mask = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[True, False], [True, True]])
    first = -(math.log(sigmoid(-1)) + math.log(sigmoid(1))) / 2
    second = -(math.log(sigmoid(4)) + 2 * math.log(sigmoid(3))) / 3
    found = total_loss(token_bt_loss(chosen, chosen_mask, rejected, rejected_mask)).item()
    assert found == pytest.approx((first + second) / 2, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_finite_with_gradients_at_extreme_rewards(name, dtype):
    chosen = torch.tensor([[-200.0, 200.0]], dtype=dtype, requires_grad=True)
    rejected = torch.tensor([[200.0, 200.0]], dtype=dtype, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    loss = total_loss(LOSSES[name](chosen, mask, rejected, mask))
    loss.backward()
    assert loss.isfinite() and chosen.grad.isfinite().all() and rejected.grad.isfinite().all()
    assert (rejected.grad > 0).all()  # the authors' form gives 0 here: 1 - sigmoid(200) is rounded away


def test_policy_losses_by_hand():
    chosen, rejected = torch.tensor([[-1.0, -3.0]]), torch.tensor([[-2.0, -9.0]])
    both, one = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert total_loss([sft_loss(chosen, both)]).item() == pytest.approx(2.0)
    expected = -math.log(sigmoid(2.5 * (-2 + 2 - 0.55)))
    assert total_loss([simpo_loss(chosen, both, rejected, one)]).item() == pytest.approx(expected, abs=1e-6)
    expected = -math.log(sigmoid(0.1 * ((-4 + 5) - (-2 + 1))))
    reference = torch.tensor([-5.0, -1.0])
    assert total_loss([dpo_loss(chosen, both, rejected, one, reference)]).item() == pytest.approx(expected, abs=1e-6)
