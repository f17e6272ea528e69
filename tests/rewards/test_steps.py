import math
import pickle

import pytest
from tiny_judges import point_judge

from hf_reward_ext.rewards import ModelReward, StepReward, aggregate_steps, split_steps


@pytest.mark.parametrize(
    ("text", "marks", "steps"),
    [
        ("a\n\nb\n\nc", "\n\n", ["a\n\n", "b\n\n", "c"]),
        ("a\n\nb\n\n", "\n\n", ["a\n\n", "b\n\n"]),
        ("a\n\n\n\nb", r"\n\n+", ["a\n\n\n\n", "b"]),
        ("no mark", "\n\n", ["no mark"]),
        ("", "\n\n", [""]),
        ("1=1;2=2/3=3", "[;/]", ["1=1;", "2=2/", "3=3"]),
        ("One. Two? Three 3.5 is a number.", "sentences", ["One. ", "Two? ", "Three 3.5 is a number."]),
        ("abc", list, ["a", "b", "c"]),
    ],
)
def test_steps_make_up_the_text(text, marks, steps):
    assert split_steps(text, marks) == steps and "".join(steps) == text


def test_aggregations_by_hand():
    found = {name: aggregate_steps([0.5, 0.9, 0.6], name) for name in ("min", "last", "mean", "product")}
    assert found == pytest.approx({"min": 0.5, "last": 0.6, "mean": 2 / 3, "product": 0.27})


def digits(prompts, completions):
    """The sum of the digits of a text, and no answer to a question mark."""
    return [None if "?" in text else float(sum(map(int, filter(str.isdigit, text)))) for text in completions]


@pytest.mark.parametrize(
    ("options", "rewards"),
    [
        ({}, [1.0, 4.0, None]),
        (dict(aggregation="last"), [6.0, 4.0, None]),
        (dict(aggregation="mean"), [(1 + 3 + 6) / 3, 4.0, None]),
        (dict(credit="difference"), [1.0, 4.0, None]),
        (dict(credit="difference", aggregation="last"), [3.0, 4.0, None]),
        (dict(credit="difference", aggregation="mean"), [2.0, 4.0, None]),
    ],
)
def test_rewards_of_prefixes_by_hand(options, rewards):
    logged, extra = {}, {}
    reward = StepReward(digits, ";", **options)
    found = reward.score(["x"] * 3, ["1;2;3", "4", "1;?"], None, logged.__setitem__, extra.__setitem__)
    assert found == rewards and logged["digits_steps/steps"] == 2.0
    assert extra["digits_steps/step_rewards"][2] is None and len(extra["digits_steps/step_rewards"][0]) == 3


def test_probabilities_of_steps_are_multiplied():
    reward = StepReward(digits, ";", probabilities=True, aggregation="product")
    sigmoid = [1 / (1 + math.exp(-value)) for value in (1, 3)]
    assert reward.score(["x"], ["1;2"]) == [pytest.approx(sigmoid[0] * sigmoid[1])]
    assert StepReward(lambda completions: [-1e4], probabilities=True).score(["x"], ["a"])[0] < 1e-300  # no overflow


def test_the_last_message_is_divided_and_a_model_reads_the_chat_before_it():
    judge = point_judge()
    turns = [{"role": "assistant", "content": "w9"}, {"role": "tool", "content": "w10"}]
    said = [[*turns, {"role": "assistant", "content": text}] for text in ("w11 w12 ", "w11 w12 w13 w14")]
    reward = StepReward(ModelReward(judge), "w12 ", aggregation="last", credit="difference")
    assert pickle.loads(pickle.dumps(reward)).marks == "w12 "
    [steps, cut] = reward.step_rewards([[{"role": "user", "content": "w4"}]] * 2, [said[1], turns])
    first, second = judge.score([[{"role": "user", "content": "w4"}]] * 2, said).tolist()
    assert steps == pytest.approx([first, second - first], abs=1e-4) and len(cut) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepReward(digits, aggregation="max"), "`aggregation` must be one of"),
        (lambda: StepReward(digits, credit="all"), "`credit` must be one of"),
        (lambda: StepReward(digits, aggregation="product"), "must come with `probabilities=True`"),
        (
            lambda: StepReward(digits, aggregation="product", probabilities=True, credit="difference"),
            "must come with `probabilities=True` and `credit='value'`",
        ),
        (lambda: StepReward(digits, "("), "`marks` must be a regular expression"),
        (lambda: StepReward(digits, "x*"), "`marks` must not match the empty text"),
        (lambda: split_steps("ab", lambda text: ["a"]), "must make up the text"),
        (lambda: split_steps("ab", lambda text: None), r"must make up the text, got \[None\]"),
        (lambda: split_steps("ab", lambda text: [1, 2]), r"must make up the text, got \[1, 2\]"),
        (lambda: StepReward(digits).score(["a"], [None]), r"`completions\[0\]` must be text or .*, got None"),
        (lambda: StepReward(digits).score(["a", 3], ["b", "c"]), r"`prompts\[1\]` must be text or .*, got 3"),
        (lambda: aggregate_steps([], "min"), "at least one step"),
    ],
)
def test_what_has_no_meaning_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
