import numpy as np
import pytest
from tiny_judges import simulated

from hf_reward_ext.fast_slow.calibrate.calibration import Outcomes
from hf_reward_ext.fast_slow.calibrate.thresholds import escalated, thresholds_for_budget, thresholds_for_risk
from hf_reward_ext.fast_slow.judge.gate import Gate


@pytest.mark.parametrize("rule", ["or", "and", "weighted"])
@pytest.mark.parametrize("budget", [0.0, 0.2, 0.4])
def test_a_budget_is_kept_and_used(rule, budget):
    data = simulated()
    gate = thresholds_for_budget(Gate(rule=rule), data, budget)
    chosen = escalated(gate, data)
    assert max(chosen.mean(), data.token_share(chosen)) <= max(budget, 2 / 50) + 1e-9
    assert chosen.mean() >= 0.8 * budget - 0.1
    if budget > 0:
        share = chosen.mean()
        random = (1 - share) * data.fast_right.mean() + share * data.slow_right.mean()
        assert data.accuracy(chosen) > random + 0.015


def test_the_whole_budget_is_not_spent_where_writing_does_not_help():
    data = simulated()
    chosen = escalated(thresholds_for_budget(Gate(), data, 1.0), data)
    assert chosen.mean() < 0.8 and data.accuracy(chosen) >= data.slow_right.mean()


def test_both_confidences_beat_either_alone_where_they_know_different_things():
    data, fresh = simulated(), simulated(seed=1)
    both = thresholds_for_budget(Gate(), data, 0.4)
    accuracy = fresh.accuracy(escalated(both, fresh))
    for alone in ("intuition", "distribution"):
        other = {"intuition": "distribution", "distribution": "intuition"}[alone]
        one = Outcomes(**{**vars(data), other: np.ones(len(data))})
        gate = thresholds_for_budget(Gate(), one, 0.4)
        assert accuracy > fresh.accuracy(escalated(gate, Outcomes(**{**vars(fresh), other: np.ones(len(fresh))})))


def test_everything_is_escalated_at_budget_one_if_writing_is_always_right():
    data = simulated(written=False)
    gate = thresholds_for_budget(Gate(), data, 1.0)
    assert data.accuracy(escalated(gate, data)) == 1.0
    with pytest.raises(ValueError, match="`budget` must be a number from 0 to 1, got 1.4"):
        thresholds_for_budget(Gate(), data, 1.4)


def test_the_risk_bound_holds_at_its_rate_on_200_splits():
    everyone = simulated(count=20000)
    rng = np.random.default_rng(3)
    broken, kept_shares = 0, []
    for _ in range(200):
        order = rng.permutation(len(everyone))
        held_out, rest = everyone.take(order[:600]), everyone.take(order[600:])
        kept = ~escalated(thresholds_for_risk(Gate(), held_out, risk=0.1), rest)
        kept_shares.append(kept.mean())
        broken += kept.any() and 1 - rest.fast_right[kept].mean() > 0.1
    assert np.mean(kept_shares) > 0.1
    assert broken <= 17  # 99th percentile of a binomial with rate 0.05


def test_the_bound_fails_where_quantiles_are_picked_by_their_errors():
    """The control: the smallest observed error over all pairs of thresholds is no bound."""
    everyone = simulated(count=20000)
    rng = np.random.default_rng(3)
    broken = 0
    for _ in range(40):
        order = rng.permutation(len(everyone))
        held_out, rest = everyone.take(order[:600]), everyone.take(order[600:])
        best = None
        for level in np.linspace(0, 1, 41):
            gate = Gate(level, level)
            kept = ~escalated(gate, held_out)
            if kept.any() and 1 - held_out.fast_right[kept].mean() <= 0.1:
                best = gate
                break
        kept = ~escalated(best, rest)
        broken += 1 - rest.fast_right[kept].mean() > 0.1
    assert broken > 8


def test_an_impossible_risk_escalates_all_and_too_few_pairs_are_refused():
    data = simulated(count=400)
    hopeless = Outcomes(data.intuition, data.distribution, np.zeros(400), data.fast_tokens)
    assert escalated(thresholds_for_risk(Gate(), hopeless, 0.1), hopeless).all()
    with pytest.raises(ValueError, match="`risk=0.05`.* takes 59 held-out decisions even without an error, got 20"):
        thresholds_for_risk(Gate(), data.take(np.arange(20)), 0.05)
    with pytest.raises(ValueError, match="`risk` must be a number above 0 and below 1, got 0"):
        thresholds_for_risk(Gate(), data, 0)


def test_a_perfect_judge_keeps_nearly_everyone():
    data = simulated(count=400)
    perfect = Outcomes(data.intuition, data.distribution, np.ones(400), data.fast_tokens)
    assert not escalated(thresholds_for_risk(Gate(), perfect, 0.1), perfect).any()


def test_scores_without_a_reference_are_gated_by_their_distribution():
    data = simulated()
    alone = Outcomes(**{**vars(data), "intuition": np.full(len(data), np.nan)})
    gate = thresholds_for_budget(Gate(), alone, 0.3)
    chosen = escalated(gate, alone)
    assert 0.2 < chosen.mean() <= 0.3
    assert data.distribution[chosen].max() < data.distribution[~chosen].min()
    assert not escalated(thresholds_for_risk(Gate(), alone, 0.3), alone).all()
