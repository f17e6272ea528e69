import math

import pytest

from hf_reward_ext.fast_slow.judge.judgment import (
    Judgment,
    ScoreCalibration,
    judgments_to_dataset,
    mean_log_odds,
    position_bias,
)


def judgment(**changes):
    fields = dict(
        probability=0.7, mode="fast", intuition=0.4, distribution=0.6, num_tokens=2, text="A", score=0.8,
        fast_probability=0.7, mass=0.9, consistent=True, parsed=True, first_verdicts=["A", "B"],
        final_verdicts=[[], []], fast_scores=[1.0, -0.6], vote_scores=[[], []], texts=[[], []], row_tokens=[1, 1],
    )  # fmt: skip
    return Judgment(**{**fields, **changes})


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_fast_scores_by_hand():
    assert ScoreCalibration("pairwise", "orders", temperature=2.0).fast_score([3.0, -1.0]) == 1.0
    assert ScoreCalibration("binary", "responses", temperature=2.0).fast_score([3.0, -1.0]) == 2.0
    assert ScoreCalibration("binary", "none", temperature=2.0).fast_score([3.0]) == 1.5


def test_written_verdicts_of_both_orders_are_averaged_as_probabilities():
    scale = ScoreCalibration("pairwise", "orders", slow_temperature=2.0)
    expected = (sigmoid(1.0) + 1 - sigmoid(3.0)) / 2
    assert sigmoid(scale.score([9.0, 9.0], [[2.0], [6.0]])) == pytest.approx(expected)


def test_swapping_the_responses_flips_the_probability():
    scale = ScoreCalibration("pairwise", "orders", 0.7, 1.3, fast_vote_weight=0.2)
    score = scale.score([1.0, -0.2], [[2.0, None], [-0.4, 0.3]])
    assert scale.score([-0.2, 1.0], [[-0.4, 0.3], [2.0, None]]) == pytest.approx(-score)


def test_votes_soft_and_hard():
    soft = ScoreCalibration("pairwise", "none").score([0.0], [[2.0, -1.0, None]])
    assert sigmoid(soft) == pytest.approx((sigmoid(2.0) + sigmoid(-1.0)) / 2)
    hard = ScoreCalibration("pairwise", "none", hard_votes=True).score([0.0], [[2.0, -1.0, 0.5]])
    assert sigmoid(hard) == pytest.approx(2 / 3)
    assert ScoreCalibration("rating", "none", slow_temperature=0.5).score([0.0], [[0.2, 0.6]]) == pytest.approx(0.8)


def test_rows_without_a_final_verdict_count_with_their_fast_one():
    scale = ScoreCalibration("pairwise", "orders", temperature=2.0)
    assert scale.score([3.0, -1.0], [[None], [None]]) == scale.fast_score([3.0, -1.0])
    mixed = sigmoid(scale.score([3.0, -1.0], [[None], [4.0]]))
    assert mixed == pytest.approx((sigmoid(1.5) + 1 - sigmoid(4.0)) / 2)


def test_fusion_mixes_log_odds():
    scale = ScoreCalibration("pairwise", "none", temperature=2.0, slow_temperature=4.0, fast_vote_weight=0.25)
    assert scale.score([2.0], [[8.0]]) == pytest.approx(0.25 * 1.0 + 0.75 * 2.0)


def test_a_dataset_holds_every_field():
    slow = judgment(mode="slow", final_verdicts=[["A"], [None]], vote_scores=[[1.5], [None]], texts=[["A w"], ["B"]])
    dataset = judgments_to_dataset([judgment(), slow])
    assert dataset["mode"] == ["fast", "slow"]
    assert dataset[1]["final_verdicts"] == [["A"], [None]] and dataset[1]["vote_scores"] == [[1.5], [None]]


def test_position_bias_by_hand():
    judgments = [
        judgment(fast_scores=[1.0, -1.0]),
        judgment(fast_scores=[2.0, 1.0], consistent=False),
        judgment(fast_scores=[-1.0, 2.0]),
        judgment(fast_scores=[3.0, 1.0], consistent=False),
    ]
    bias = position_bias(judgments)
    assert bias == {"num_pairs": 4, "disagreement": 0.5, "prefers_first": 0.75, "mean_bias": 1.0}
    with pytest.raises(ValueError, match="None of the 1 judgments has two rows"):
        position_bias([judgment(fast_scores=[1.0])])


def test_votes_are_averaged_as_probabilities():
    log_odds = [math.log(p / (1 - p)) for p in (0.9, 0.2, 0.5)]
    assert sigmoid(mean_log_odds(log_odds)) == pytest.approx(1.6 / 3)
    assert mean_log_odds([40.0]) == pytest.approx(40.0)
