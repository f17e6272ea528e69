"""Intervals cover the truth as often as they say; the simulations are seeded."""

import numpy as np
import pytest

from hf_reward_ext.evaluation import composite_with_interval, mean_with_interval, share_with_interval


def coverage(interval, truth, draw, trials=300):
    rng = np.random.default_rng(0)
    estimates = [interval(draw(rng)) for _ in range(trials)]
    return np.mean([estimate.lower <= truth <= estimate.upper for estimate in estimates])


@pytest.mark.parametrize(("share", "count"), [(0.5, 60), (0.7, 150), (0.9, 400)])
def test_shares(share, count):
    covered = coverage(
        lambda x: share_with_interval(x, num_resamples=400), share, lambda rng: rng.random(count) < share
    )
    assert 0.91 <= covered <= 0.985


def test_skewed_means():
    covered = coverage(lambda x: mean_with_interval(x, num_resamples=400), 0.25, lambda rng: rng.beta(0.5, 1.5, 200))
    assert 0.91 <= covered <= 0.985


def test_composites_of_groups_of_unequal_size():
    weights, shares, counts = {"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.6}, {"a": 300, "b": 60}
    covered = coverage(
        lambda groups: composite_with_interval(groups, weights, num_resamples=400),
        0.75,
        lambda rng: {name: rng.random(counts[name]) < shares[name] for name in shares},
    )
    assert 0.91 <= covered <= 0.985


def test_a_composite_is_the_weighted_sum_of_means_and_counts_groups_apart():
    groups = {"a": np.array([1.0, 0.0]), "b": np.ones(50), "c": np.zeros(9)}
    estimate = composite_with_interval(groups, {"a": 0.2, "b": 0.8})
    assert estimate.value == pytest.approx(0.9)
    # Only group a varies: its mean is 0, 1/2 or 1.
    assert (estimate.lower, estimate.upper) == (pytest.approx(0.8), pytest.approx(1.0))


def test_shares_that_are_all_right_or_all_wrong_have_an_open_end():
    # All of n right: the lower end p solves p^n = 0.025.
    assert share_with_interval(np.ones(20)).lower == pytest.approx(0.025 ** (1 / 20))
    assert share_with_interval(np.zeros(20)).upper == pytest.approx(1 - 0.025 ** (1 / 20))
    assert share_with_interval(np.ones(20)).upper == 1 and share_with_interval(np.zeros(20)).lower == 0
    assert share_with_interval(np.full(20, 0.5)) == (0.5, 0.5, 0.5)


def test_more_confidence_is_wider():
    values = np.random.default_rng(0).random(50)
    narrow, wide = mean_with_interval(values, confidence=0.5), mean_with_interval(values, confidence=0.99)
    assert wide.lower < narrow.lower < narrow.upper < wide.upper
