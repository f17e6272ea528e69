"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from hf_reward_ext.elhsr.losses import bce_loss, hinge_loss, infonca_loss, nca_loss, pairwise_loss

REWARDS = torch.tensor([2.0, 0.0, 1.0, -1.0])
LABELS = torch.tensor([1.0, 0.0, 0.0, 1.0])
GROUPS = torch.tensor([0, 0, 1, 1])


def softplus(x):
    return math.log1p(math.exp(x))


def test_bce():
    expected = (softplus(-2) + softplus(0) + softplus(1) + softplus(1)) / 4
    assert bce_loss(REWARDS, LABELS, GROUPS).item() == pytest.approx(expected, abs=1e-6)


def test_hinge():
    assert hinge_loss(REWARDS, LABELS, GROUPS).item() == pytest.approx((0 + 1 + 2 + 2) / 4)


def test_pairwise_stays_within_a_prompt():
    expected = (softplus(-2) + softplus(2)) / 2  # differences 2 - 0 and -1 - 1
    assert pairwise_loss(REWARDS, LABELS, GROUPS).item() == pytest.approx(expected, abs=1e-6)


def test_infonca_with_one_correct_is_cross_entropy():
    expected = (softplus(-2) + softplus(2)) / 2
    assert infonca_loss(REWARDS, LABELS, GROUPS).item() == pytest.approx(expected, abs=1e-6)


def test_nca():
    first = softplus(-2) + (softplus(2) + softplus(0)) / 2
    second = softplus(1) + (softplus(1) + softplus(-1)) / 2
    assert nca_loss(REWARDS, LABELS, GROUPS).item() == pytest.approx((first + second) / 2, abs=1e-6)


@pytest.mark.parametrize("loss", [pairwise_loss, infonca_loss, nca_loss])
def test_prompts_that_teach_nothing_add_nothing(loss):
    rewards = torch.tensor([0.3, -0.2, 2.0, 0.0], requires_grad=True)
    useless = loss(rewards, torch.zeros(4), GROUPS)
    useless.backward()
    assert useless.item() == 0 and rewards.grad.abs().sum() == 0
    mixed = loss(rewards, torch.tensor([0.0, 0.0, 1.0, 0.0]), GROUPS)
    alone = loss(rewards[2:], torch.tensor([1.0, 0.0]), GROUPS[2:])
    assert mixed.item() == pytest.approx(alone.item())
