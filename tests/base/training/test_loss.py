import pytest
import torch

from hf_reward_ext.base.training.averages import Averages
from hf_reward_ext.base.training.loss import LossTerm, total_loss


def test_terms_are_means_over_their_own_items():
    tokens = LossTerm("tokens", torch.tensor([3.0, 5.0]), torch.tensor([1, 3]), "tokens", weight=0.5)
    pairs = LossTerm("pairs", torch.tensor([1.0, 2.0]), torch.ones(2), "pairs")
    assert total_loss([tokens, pairs]).item() == pytest.approx(0.5 * 8 / 4 + 3 / 2)
    items = {"tokens": torch.tensor(16.0), "pairs": torch.tensor(6.0)}
    assert total_loss([tokens, pairs], items).item() == pytest.approx(0.5 * 8 / 16 + 3 / 6)
    none = LossTerm("none", torch.zeros(2), torch.zeros(2), "none")
    assert total_loss([none]).item() == 0


def test_averages_weigh_items_not_batches():
    averages = Averages()
    averages.add("x", [2.0, 4.0], [1, 1])
    averages.add("x", [9.0], [1])
    averages.add("nothing", [0.0], [0])
    assert averages.pop() == {"x": 5.0} and averages.pop() == {}
