import itertools

import numpy as np
import pytest

from hf_reward_ext.evaluation import best_of_n_curve, majority_curve, mean_with_interval, pass_at_k


@pytest.mark.parametrize("seed", range(4))
def test_curves_equal_enumeration_of_all_subsets(seed):
    rng = np.random.default_rng(seed)
    rewards = rng.integers(0, 4, (5, 6)).astype(float)  # many ties
    correct = rng.integers(0, 2, (5, 6))
    curve, ceiling = best_of_n_curve(rewards, correct), pass_at_k(correct)
    for k in range(1, 7):
        subsets = list(itertools.combinations(range(6), k))
        best = [correct[p][max(s, key=lambda c, p=p: (rewards[p][c], -c))] for p in range(5) for s in subsets]
        any_right = [correct[p][list(s)].max() for p in range(5) for s in subsets]
        assert curve[k].value == pytest.approx(np.mean(best))
        assert ceiling[k].value == pytest.approx(np.mean(any_right))


def test_majority_at_the_ends():
    answers = [["a", "b", "b"], ["a", "a", None], [None, None, None]]
    correct = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    curve = majority_curve(answers, correct, num_subsets=4000)
    assert curve[3].value == pytest.approx(1 / 3)
    # A single vote is right as often as its candidate; one that abstains is wrong.
    assert curve[1].value == pytest.approx((1 / 3 + 2 / 3) / 3, abs=0.02)
    weighted = majority_curve(answers, correct, ks=[3], weights=np.array([[5, 1, 1], [1, 1, 1], [1, 1, 1]]))
    assert weighted[3].value == pytest.approx(2 / 3)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for trial in range(200):
        estimate = mean_with_interval(rng.random(150) < 0.7, num_resamples=400, seed=trial)
        inside += estimate.lower <= 0.7 <= estimate.upper
    assert 180 <= inside <= 199  # 95 % of 200, within the spread of 200 trials


def test_refusals():
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*shape \(2, 2\)"):
        best_of_n_curve(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="1 NaN"):
        best_of_n_curve(np.array([[np.nan, 0.0]]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="numbers from 1 to the 2 candidates"):
        pass_at_k(np.zeros((1, 2)), ks=[3])
    with pytest.raises(ValueError, match="one number per prompt"):
        mean_with_interval(np.zeros((2, 2)))
