import math

import pytest
import torch

from hf_reward_ext.fast_slow.judge.confidence import (
    distribution_confidence,
    escalate,
    fast_score,
    intuition_confidence,
    order_average,
    orders_agree,
    preference_probability,
    top_gap_confidence,
    verdict_mass,
    verdict_probabilities,
    vocabulary_entropy_confidence,
)

IDS = torch.tensor([3, 5])


def test_probabilities_and_mass_by_hand():
    logits = torch.log(torch.tensor([[0.1, 0.1, 0.1, 0.4, 0.1, 0.2]]))
    torch.testing.assert_close(verdict_probabilities(logits, IDS), torch.tensor([[2 / 3, 1 / 3]]))
    torch.testing.assert_close(verdict_mass(logits, IDS), torch.tensor([0.6]))


def test_scores_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])
    torch.testing.assert_close(fast_score(logits), torch.tensor([math.log(3.0)]))
    torch.testing.assert_close(fast_score(logits, torch.tensor([1.0, -1.0])), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="`values` must be given for 3 verdicts"):
        fast_score(torch.zeros(1, 3))


def test_confidences_stay_between_zero_and_one():
    logits = torch.randn(500, 12) * 20
    p, mass = verdict_probabilities(logits, IDS), verdict_mass(logits, IDS)
    for confidence in (
        distribution_confidence(p, mass),
        intuition_confidence(fast_score(logits[:, IDS])),
        top_gap_confidence(logits),
        vocabulary_entropy_confidence(logits),
    ):
        assert confidence.min() >= 0 and confidence.max() <= 1
        assert confidence.std() > 0.05


def test_intuition_is_symmetric_zero_at_a_tie_and_the_distance_from_a_coin_flip():
    difference = torch.tensor([0.0, 0.5, -2.0, 7.0])
    confidence = intuition_confidence(difference, 0.7)
    assert confidence[0] == 0
    torch.testing.assert_close(confidence, intuition_confidence(-difference, 0.7))
    torch.testing.assert_close(confidence, (2 * preference_probability(difference, 0.7) - 1).abs())


def test_distribution_is_zero_when_uniform_or_off_format_and_one_when_certain():
    uniform = torch.full((1, 5), 0.2)
    certain = torch.eye(5)[:1]
    assert distribution_confidence(uniform, torch.ones(1)).item() == pytest.approx(0, abs=1e-6)
    assert distribution_confidence(certain, torch.zeros(1)).item() == 0
    assert distribution_confidence(certain, torch.ones(1)).item() == 1
    assert distribution_confidence(certain, torch.full((1,), 0.25)).item() == 0.25


def test_swapping_the_order_flips_the_probability():
    first, swapped = torch.randn(20), torch.randn(20)
    p = preference_probability(order_average(first, swapped), 0.5)
    torch.testing.assert_close(preference_probability(order_average(swapped, first), 0.5), 1 - p)


def test_a_judge_of_positions_is_undecided_and_inconsistent():
    margin = torch.tensor([2.0])
    assert order_average(margin, margin).item() == 0
    assert not orders_agree(margin, margin)
    assert orders_agree(margin, -margin)
    assert orders_agree(margin, torch.zeros(1))


@pytest.mark.parametrize("rule", ["or", "and", "weighted"])
def test_threshold_zero_never_escalates_and_above_one_always(rule):
    intuition = torch.tensor([0.0, 0.3, 1.0, 1.0])
    distribution = torch.tensor([0.0, 1.0, 0.2, 1.0])
    assert not escalate(intuition, distribution, 0.0, 0.0, rule).any()
    assert escalate(intuition, distribution, 1.01, 1.01, rule).all()


def test_rules_by_hand():
    intuition, distribution = torch.tensor([0.2, 0.2, 0.9]), torch.tensor([0.2, 0.9, 0.9])
    assert escalate(intuition, distribution, 0.5, 0.5, "or").tolist() == [True, True, False]
    assert escalate(intuition, distribution, 0.5, 0.5, "and").tolist() == [True, False, False]
    assert escalate(intuition, distribution, 0.5, 0.5, "weighted", weight=0.9).tolist() == [True, True, False]
    assert escalate(intuition, distribution, 0.5, 0.5, "weighted", weight=0.1).tolist() == [True, False, False]
    with pytest.raises(Exception, match="xor"):
        escalate(intuition, distribution, 0.5, 0.5, "xor")  # type: ignore[arg-type]


def test_alternatives_by_hand():
    q = torch.tensor([[0.5, 0.25, 0.25]])
    torch.testing.assert_close(top_gap_confidence(q.log()), torch.tensor([0.25]))
    entropy = 1.5 * math.log(2)
    torch.testing.assert_close(vocabulary_entropy_confidence(q.log()), torch.tensor([1 - entropy / math.log(3)]))
