from dataclasses import replace

import numpy as np
import pytest
from tiny_judges import outcome_judgment as judgment

from hf_reward_ext.base.stats.calibration import expected_calibration_error, fit_temperature, reliability
from hf_reward_ext.base.stats.intervals import clopper_pearson_upper
from hf_reward_ext.fast_slow.calibrate.calibration import (
    fit_fast_temperature,
    fit_fast_vote_weight,
    fit_slow_temperature,
    outcomes,
)
from hf_reward_ext.fast_slow.judge.judgment import ScoreCalibration

SCALE = ScoreCalibration("pairwise", "none")


def drawn(temperature, count=20000, seed=0):
    """Log-odds that are `temperature` times too large, and truths drawn from the right ones."""
    rng = np.random.default_rng(seed)
    right = rng.normal(0, 2, count)
    truth = rng.random(count) < 1 / (1 + np.exp(-right))
    return right * temperature, truth


def test_the_temperature_that_was_put_in_is_found():
    for temperature in (0.05, 1.0, 3.0, 40.0):
        scores, truth = drawn(temperature)
        sign = np.where(truth, 1, -1)
        assert fit_temperature(lambda tau, s=scores * sign: s / tau) == pytest.approx(temperature, rel=0.05)
        judgments = [judgment(fast_scores=[score]) for score in scores[:3000]]
        assert fit_fast_temperature(judgments, truth[:3000], SCALE) == pytest.approx(temperature, rel=0.15)


def test_a_fitted_temperature_calibrates():
    scores, truth = drawn(4.0)
    before = expected_calibration_error(1 / (1 + np.exp(-scores)), truth)
    sign = np.where(truth, 1, -1)
    tau = fit_temperature(lambda tau: scores * sign / tau)
    after = expected_calibration_error(1 / (1 + np.exp(-scores / tau)), truth)
    assert before > 0.1 and after < 0.015


def test_the_written_temperature_and_the_weight_of_the_fast_verdict():
    slow, truth = drawn(2.5, count=2000)
    noise = np.random.default_rng(1).normal(0, 3, len(slow))
    judgments = [
        judgment(fast_scores=[float(other)], vote_scores=[[float(score)]])
        for score, other in zip(slow, noise, strict=True)
    ]
    tau = fit_slow_temperature(judgments, truth, SCALE)
    assert tau == pytest.approx(2.5, rel=0.1)
    assert fit_fast_vote_weight(judgments, truth, replace(SCALE, slow_temperature=tau)) < 0.05
    useless = [replace(one, fast_scores=one.vote_scores[0], vote_scores=[one.fast_scores]) for one in judgments]
    assert fit_fast_vote_weight(useless, truth, replace(SCALE, temperature=2.5)) > 0.95


def test_calibration_error_by_hand():
    probability = np.array([0.9, 0.9, 0.1, 0.6])
    truth = np.array([True, False, False, True])
    # Confidence 0.9 three times, right twice; 0.6 once, right.
    assert expected_calibration_error(probability, truth) == pytest.approx(0.75 * abs(2 / 3 - 0.9) + 0.25 * 0.4)
    table = reliability(probability, truth)
    assert [share for _, _, share in table] == [0.25, 0.75]


def test_the_upper_bound_of_an_error_rate():
    assert clopper_pearson_upper(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert clopper_pearson_upper(3, 3) == 1.0
    assert clopper_pearson_upper(0, 0) == 1.0
    assert clopper_pearson_upper(5, 100, 0.9) < clopper_pearson_upper(5, 100, 0.99)


def test_outcomes_count_ties_as_half_right():
    fast = [judgment(score=1.0), judgment(score=-1.0), judgment(score=0.0)]
    slow = [judgment(score=1.0, num_tokens=11), judgment(score=1.0, num_tokens=11), judgment(score=1.0, num_tokens=22)]
    data = outcomes(fast, [True, True, True], slow)
    assert data.fast_right.tolist() == [1, 0, 0.5] and data.slow_right.tolist() == [1, 1, 1]
    chosen = np.array([False, True, False])
    assert data.accuracy(chosen) == pytest.approx(2.5 / 3)
    assert data.token_share(chosen) == pytest.approx((2 + 11 + 2) / 44)
    assert data.take(chosen).fast_right.tolist() == [0]
    with pytest.raises(ValueError, match="no written judgments, so their tokens are unknown"):
        outcomes(fast, [True, True, True]).token_share(chosen)
