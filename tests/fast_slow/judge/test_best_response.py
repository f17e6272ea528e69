import pytest
from tiny_judges import counted, pair_judge, point_judge

from hf_reward_ext.fast_slow import best_response
from hf_reward_ext.fast_slow.judge.best_response import mean_log_odds_of_duels

RESPONSES = ["w12 w13", "w14", "w15 w16 w17", "w20 w21", "w5"]


@pytest.mark.parametrize("make", [pair_judge, point_judge])
def test_a_clear_leader_costs_no_written_token(make):
    judge = make()
    best = best_response(judge, "w4 w5", RESPONSES, threshold=0.0)
    assert best.index == max(range(5), key=lambda place: best.scores[place])
    assert best.leaders == [best.index] and best.judgments == []
    assert best.num_tokens == (20 if judge.judge_prompt.is_pairwise else 5)


@pytest.mark.parametrize("make", [pair_judge, point_judge])
def test_only_close_leaders_are_written_about(make):
    judge = make(sampling_temperature=5.0, num_votes=4, max_new_tokens=60)
    best = best_response(judge, "w4 w5", RESPONSES, max_leaders=3, threshold=1.01)
    assert best.leaders == sorted(range(5), key=lambda place: -best.scores[place])[:3]
    assert best.index in best.leaders and len(best.judgments) == 3  # of three leaders, or of their three duels
    assert all(one.mode == "slow" for one in best.judgments)


def test_the_written_judgment_decides_among_leaders():
    judge = point_judge(sampling_temperature=5.0, num_votes=4, max_new_tokens=60)
    best = best_response(judge, "w4 w5", RESPONSES, max_leaders=5, threshold=1.01)
    written = [one.score for one in best.judgments]
    assert best.index == best.leaders[written.index(max(written))]


def test_pairwise_scores_do_not_depend_on_the_order_of_the_candidates():
    judge = pair_judge()
    forward = best_response(judge, "w4 w5", RESPONSES, threshold=0.0)
    backward = best_response(judge, "w4 w5", RESPONSES[::-1], threshold=0.0)
    assert forward.scores == pytest.approx(backward.scores[::-1], abs=1e-4)


def test_the_prompt_is_read_once_for_all_candidates():
    judge = point_judge()
    with counted(judge.causal_lm) as shapes:
        best_response(judge, "w4 " * 20, RESPONSES, threshold=0.0)
    assert len(shapes) == 2 and shapes[0][0] == 1 and shapes[1][0] == 5


def test_one_response_is_the_best_and_none_is_refused():
    assert best_response(pair_judge(), "w4", ["w5"]).index == 0
    with pytest.raises(ValueError, match="at least one response, got none"):
        best_response(pair_judge(), "w4", [])


def test_duels_by_hand():
    players = [("x", "a"), ("x", "b"), ("x", "c"), ("y", "a")]
    duels = {("x", "a", "b"): 2.0, ("x", "a", "c"): -1.0, ("x", "b", "c"): 0.5}
    assert mean_log_odds_of_duels(players, duels) == [0.5, -0.75, 0.25, 0.0]
