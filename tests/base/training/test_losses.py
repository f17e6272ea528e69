import json
import math

import pytest
import torch

from hf_reward_ext.base.training.losses import bradley_terry_loss, hinge_pair_loss


def softplus(x):
    return math.log1p(math.exp(x))


def test_by_hand():
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])
    loss = bradley_terry_loss(
        chosen, rejected, beta=0.5, gamma=0.1, margin=torch.tensor([0.2, 0.0]), label_smoothing=0.1
    )
    h = [0.5 * 1 - 0.1 - 0.2, 0.5 * -3 - 0.1]
    assert loss.tolist() == pytest.approx([0.9 * softplus(-x) + 0.1 * softplus(x) for x in h], abs=1e-6)
    assert hinge_pair_loss(chosen, rejected, beta=0.5).tolist() == pytest.approx([0.5, 2.5])


def test_equals_the_authors_of_genarm(fixtures_dir):
    numbers = json.loads((fixtures_dir / "genarm.json").read_text())
    chosen, rejected = (torch.tensor(numbers[key], dtype=torch.float64) for key in ("chosen_logps", "rejected_logps"))
    for row in numbers["rows"]:
        if row["loss_type"] == "hinge":
            losses = hinge_pair_loss(chosen, rejected, beta=row["beta"])
        else:
            settings = {key: row[key] for key in ("beta", "gamma", "label_smoothing")}
            losses = bradley_terry_loss(chosen, rejected, **settings)
        assert losses.tolist() == pytest.approx(row["losses"], abs=1e-9)


def test_finite_and_with_gradient_far_out():
    chosen = torch.tensor([-400.0, 400.0], dtype=torch.bfloat16, requires_grad=True)
    loss = bradley_terry_loss(chosen, torch.zeros(2, dtype=torch.bfloat16)).sum()
    loss.backward()
    assert loss.item() == 400 and chosen.grad.tolist() == [-1, 0]
