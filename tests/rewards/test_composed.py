"""Rewards by rules, and those that combine others."""

import pickle

import pytest
from tiny_judges import point_judge

from hf_reward_ext.rewards import AnswerReward, ConditionedReward, FormatReward, LengthControlled, WeightedReward

IDS = [[5], [5, 6], [5, 6, 7, 8], [5] * 6]


def lengths(completions):
    return [float(len(text)) for text in completions]


def some_answers(prompts, completions):
    return [None if text == "?" else float(text.isdigit()) for text in completions]


@pytest.mark.parametrize(
    ("text", "right", "reward"),
    [
        ("2+2=4", "4", 1.0),
        ("2+2=5;5-1=4", "4", 1.0),  # the last one counts
        ("2+2=4;4+1=5", "4", 0.0),
        ("=0.50", "1/2", 1.0),
        ("=1,000", 1000, 1.0),
        ("=1e999999999", "4", 0.0),
        ("no", "4", 0.0),
        ("=4", None, None),  # another task
        ([{"role": "assistant", "content": "=4"}], "4", 1.0),
        ([{"role": "assistant", "content": "=3"}, {"role": "tool", "content": "=4"}], "4", 0.0),  # cut in the tool loop
        ([{"role": "assistant", "content": [{"type": "text", "text": "=4"}]}], "4", 1.0),
        ([], "4", 0.0),
    ],
)
def test_answers_are_compared_with_a_column(text, right, reward):
    logged = {}
    found = AnswerReward(r"=([\d.,/e]+)").score(["x"], [text], log_extra=logged.__setitem__, answer=[right])
    assert found == [reward] and list(logged) == ["answer/answer"]


def test_the_column_and_the_rewards_of_answers_can_be_chosen():
    reward = AnswerReward(r"\d", column="target", correct=2.0, wrong=-1.0)
    assert reward(["x"] * 2, ["1", "2"], target=[1, 1]) == [2.0, -1.0]
    with pytest.raises(ValueError, match=r"must get the column 'target' of the right answers, got the columns \['a'\]"):
        reward(["x"], ["1"], a=[1])
    with pytest.raises(ValueError, match="at most one group"):
        AnswerReward(r"(\d)(\d)")
    with pytest.raises(ValueError, match="must be a regular expression"):
        FormatReward("(")


def test_a_format_is_that_of_the_whole_completion():
    assert FormatReward(r"<a>.*</a>")(["x"] * 3, ["<a>1\n2</a>", "<a>1</a> ", ""]) == [1.0, 0.0, 0.0]


def test_the_second_reward_counts_and_runs_only_where_the_first_passes():
    seen, logged, extra = [], {}, {}

    def second(prompts, completions, weight, log_metric, completion_ids, trainer_state):
        seen.append((list(completions), weight, completion_ids, trainer_state))
        log_metric("second", 1.0)
        return [10.0 * one for one in weight]

    reward = ConditionedReward(some_answers, second, otherwise=-1.0)
    found = reward(
        ["x"] * 4, ["1", "a", "?", "2"], IDS, logged.__setitem__, extra.__setitem__, weight=[1, 2, 3, 4],
        trainer_state="s",
    )  # fmt: skip
    assert found == [10.0, -1.0, None, 40.0]
    assert seen == [(["1", "2"], [1, 4], [IDS[0], IDS[3]], "s")]
    name = reward.__name__
    assert name == "second_if_some_answers" and extra == {f"{name}/condition": [1.0, 0.0, None, 1.0]}
    assert logged == {"second": 1.0, f"{name}/answered_rate": 0.75, f"{name}/pass_rate": pytest.approx(2 / 3)}
    assert reward(["x"], ["a"], weight=[1]) == [-1.0] and len(seen) == 1  # nothing passes, nothing runs


def test_a_column_without_a_value_for_each_completion_is_refused():
    for values in ([1], 0.5):
        with pytest.raises(ValueError, match="'weight' must have one value for each of 2 completions"):
            ConditionedReward(lengths, lengths)(["x"] * 2, ["a", "b"], weight=values)


def test_the_threshold_itself_passes():
    assert ConditionedReward(lengths, lengths, threshold=2)(["x"] * 2, ["aa", "a"]) == [2.0, 0.0]


def test_tokens_beyond_the_budget_have_a_price():
    logged = {}
    reward = LengthControlled(some_answers, budget=2, weight=0.5)
    assert reward(["x"] * 4, ["1", "2", "3", "?"], IDS, logged.__setitem__) == [1.0, 1.0, 0.5, None]
    name = "some_answers_length_controlled"
    assert logged == {f"{name}/length": 3.25, f"{name}/over_budget_rate": 0.5, f"{name}/answered_rate": 0.75}
    assert LengthControlled(budget=2)(["x"] * 4, ["1"] * 4, IDS) == [0.0, 0.0, -1.0, -2.0]
    with pytest.raises(ValueError, match="`completion_ids` must be given"):
        reward(["x"], ["1"])


def test_rewards_nest_in_any_order_and_are_pickled():
    reward = ConditionedReward(
        FormatReward(r"w\d+"),
        WeightedReward([LengthControlled(point_judge(), budget=2), lengths], [1.0, 2.0]),
        name="all",
    )
    logged = {}
    found = reward(["w4"] * 4, ["w12", "w13", "w14", "no"], IDS, logged.__setitem__)
    judged = point_judge().score(["w4"] * 3, ["w12", "w13", "w14"]).tolist()
    assert found == pytest.approx([judged[0] + 6, judged[1] + 6, judged[2] - 1 + 6, 0.0], abs=1e-4)
    assert "weighted_reward/lengths" in logged and logged["all/pass_rate"] == 0.75
    assert pickle.loads(pickle.dumps(reward))(["w4"], ["w12"], IDS[:1]) == pytest.approx(found[:1], abs=1e-4)


@pytest.mark.parametrize("make", [
    lambda: ConditionedReward(lengths, lengths, threshold=float("nan")),
    lambda: ConditionedReward(lengths, lengths, otherwise=float("inf")),
    lambda: LengthControlled(budget=0),
    lambda: LengthControlled(budget=2, weight=-1.0),
    lambda: AnswerReward("x", correct=float("nan")),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_as_many_prompts_as_completions():
    with pytest.raises(ValueError, match="one prompt per completion, got 1 for 2"):
        FormatReward("a")(["x"], ["a", "b"])
