"""Reward functions of any signature are called as it asks, or refused when they are bound."""

import functools

import pytest

from hf_reward_ext.base.scoring.function import RewardFunction

PROMPTS, COMPLETIONS, ANSWERS = ["p", "q"], ["c", "d"], [1, 2]


def by_position_only(p, c, /):
    return p, c


def swapped_by_position_only(completions, prompts, /):
    return prompts, completions


async def asynchronous(prompts, completions, **columns):
    return prompts, completions


class Object:
    def __call__(self, prompts, completions):
        return prompts, completions

    def method(self, questions, texts):
        return questions, texts


@pytest.mark.parametrize(
    "function",
    [
        lambda prompts, completions: (prompts, completions),
        lambda completions, prompts: (prompts, completions),
        lambda p, c: (p, c),
        lambda prompts, responses: (prompts, responses),
        lambda responses, prompts: (prompts, responses),
        lambda question, completions: (question, completions),
        lambda *, prompts, completions: (prompts, completions),
        lambda prompts, completions, scale=1: (prompts, completions),
        lambda **columns: (columns["prompts"], columns["completions"]),
        lambda completions, **columns: (columns["prompts"], completions),
        lambda p, c, **columns: (p, c),
        lambda *arguments: arguments,
        lambda *arguments, **columns: (columns["prompts"], columns["completions"]),
        lambda p, c: asynchronous(p, c),
        functools.partial(lambda scale, prompts, completions: (prompts, completions), 3),
        by_position_only,
        swapped_by_position_only,
        asynchronous,
        functools.partial(asynchronous),
        Object(),
        Object().method,
    ],
)
def test_prompts_and_completions_arrive_where_they_belong(function):
    assert RewardFunction(function)(PROMPTS, COMPLETIONS) == (PROMPTS, COMPLETIONS)


@pytest.mark.parametrize(
    "function",
    [
        lambda completions, answer: answer,
        lambda answer, completions: answer,
        lambda p, c, answer: answer,
        lambda prompts, completions, answer=None: answer,
        lambda completions, **columns: columns["answer"],
    ],
)
def test_columns_are_passed_by_their_names(function):
    bound = RewardFunction(function)
    bound.check_columns({"answer"})
    assert bound(PROMPTS, COMPLETIONS, dict(answer=ANSWERS, other=[0, 0], completions=["x", "x"])) == ANSWERS


def test_a_function_of_ids_alone_is_one_of_trls():
    bound = RewardFunction(lambda completion_ids, **columns: completion_ids)
    assert bound(PROMPTS, COMPLETIONS, {"completion_ids": [[1], [2]]}) == [[1], [2]]
    with pytest.raises(TypeError, match=r"has the arguments \['completion_ids'\]"):
        bound.check_columns({"answer"})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: 0, "takes no completions"),
        (lambda text: 0, "takes no completions"),
        (lambda prompts: 0, "takes no completions"),
        (lambda texts, batch_size=8: 0, "takes no completions"),
        (max, "has no readable signature"),
        (Object, "got the class itself"),
    ],
)
def test_what_cannot_be_called_is_refused_when_it_is_bound(function, message):
    with pytest.raises(TypeError, match=message):
        RewardFunction(function)


def test_a_missing_column_is_refused():
    with pytest.raises(TypeError, match=r"the columns \['answer'\], but it also has the arguments \['solution'\]"):
        RewardFunction(lambda completions, solution: 0).check_columns(["answer"])
