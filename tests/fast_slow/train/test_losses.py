import math

import pytest
import torch

from hf_reward_ext.fast_slow.train.losses import judgment_losses, pairwise_margins, verdict_token_loss

IDS = torch.tensor([1, 3])


def test_the_loss_of_a_verdict_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1]]))
    loss = verdict_token_loss(logits, IDS, torch.tensor([1, -1]))
    torch.testing.assert_close(loss, -torch.log(torch.tensor([0.1, 0.3])))


def test_an_unknown_verdict_only_teaches_that_there_is_one():
    logits = torch.randn(1, 4, requires_grad=True)
    verdict_token_loss(logits, IDS, torch.tensor([-1])).sum().backward()
    p = logits.detach()[0, IDS].softmax(-1)
    # Both verdicts are pushed up in proportion to their probability, so their odds stay.
    assert (logits.grad[0, IDS] < 0).all()
    assert logits.grad[0, 1] / logits.grad[0, 3] == pytest.approx((p[0] / p[1]).item(), rel=1e-4)


def test_margins_of_both_orders_are_for_the_chosen_response():
    torch.testing.assert_close(
        pairwise_margins(torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 3.0])), torch.tensor([[2.0, 1.0], [0.5, -3.0]])
    )


def test_judgments_count_alike_however_long():
    logps = torch.tensor([[-1.0, math.nan, math.nan], [-2.0, -3.0, -4.0], [-9.0, -9.0, -9.0]])
    mask = torch.tensor([[True, False, False], [True, True, True], [False, False, False]])
    assert judgment_losses(logps, mask).tolist() == [1, 3, 0]
    assert judgment_losses(logps, torch.zeros_like(mask)).tolist() == [0, 0, 0]
