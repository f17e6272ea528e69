import json

import numpy as np
import pytest

from hf_reward_ext.base.scoring.combine import FittedCombination, max_rank, min_max


def test_max_rank_by_hand():
    first, second = np.array([3.0, 2.0, 1.0, 0.0]), np.array([0.0, 3.0, 1.0, 2.0])
    np.testing.assert_array_equal(max_rank(first, second), [-3, -1, -2, -3])
    np.testing.assert_array_equal(max_rank(np.ones(3), np.ones(3)), [0, -1, -2])  # ties rank in order
    np.testing.assert_array_equal(max_rank(np.stack([first] * 2), np.stack([second] * 2))[1], [-3, -1, -2, -3])


def test_min_max_by_hand():
    np.testing.assert_allclose(min_max(np.array([0.0, 5.0, 10.0]), np.array([2.0, 1.0, 1.5])), [0.5, 0.25, 0.75])
    np.testing.assert_allclose(min_max(np.array([[0.0, 10.0], [4.0, 4.0]]), np.zeros((2, 2))), [[0.5, 1], [1, 1]])


def test_fitted_weighs_the_better_reward_more():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (200, 4))
    good, poor = labels + 0.3 * rng.standard_normal((200, 4)), 50 * (labels + 5 * rng.standard_normal((200, 4)))
    combine = FittedCombination().fit(good, poor, labels)
    assert combine.weights[0] * good.std() > 5 * abs(combine.weights[1]) * poor.std()
    assert ((combine(good, poor) > 0) == labels).mean() > 0.9
    again = FittedCombination(**json.loads(json.dumps(combine.to_dict())))
    np.testing.assert_allclose(again(good, poor), combine(good, poor))


def test_refusals():
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        min_max(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        max_rank(np.array([np.nan]), np.zeros(1))
    with pytest.raises(RuntimeError, match="Call `fit`"):
        FittedCombination()(np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="All 2 labels are 1"):
        FittedCombination().fit(np.zeros(2), np.zeros(2), np.ones(2))
