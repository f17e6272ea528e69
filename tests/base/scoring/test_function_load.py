"""Asynchronous rewards under load: many calls at once, from threads and from event loops, some of which fail."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from hf_reward_ext.base.scoring.function import RewardFunction
from hf_reward_ext.base.scoring.scorer import as_scorer

NUM_CALLS = 200
COUNT = 4


class Broken(Exception):
    """An error of the reward itself."""


async def reward(prompts, completions):
    """The length of each completion, after other calls had their turn; some calls go wrong."""
    number = int(prompts[0])
    values = []
    for text in completions:
        await asyncio.sleep(0)
        values.append(float(len(text)))
    if number % 10 == 3:
        raise Broken(f"call {number}")
    values[2] = {5: float("nan"), 7: None, 9: "much"}.get(number % 10, values[2])
    return values[:-1] if number % 10 == 1 else values


def call(number):
    """What a call returns, or its error."""
    texts = ["w" * (number % 7 + index) for index in range(COUNT)]
    try:
        return SCORER([str(number)] * COUNT, texts)
    except Exception as error:
        return error


SCORER = as_scorer(reward)


def check(number, found):
    expected = [float(number % 7 + index) for index in range(COUNT)]
    kind = number % 10
    if kind == 3:
        assert isinstance(found, Broken) and str(found) == f"call {number}"
    elif kind == 1:
        assert isinstance(found, ValueError) and "for 4" in str(found)
    elif kind in (5, 9):
        assert isinstance(found, ValueError if kind == 5 else TypeError) and "response 2" in str(found)
    elif kind == 7:
        assert found[2] is None and [*found[:2], *found[3:]] == [*expected[:2], *expected[3:]]
    else:
        assert list(found) == expected


@pytest.mark.parametrize("num_threads", [2, 8])
def test_calls_from_threads_keep_apart(num_threads):
    with ThreadPoolExecutor(num_threads) as pool:
        for number, found in enumerate(pool.map(call, range(NUM_CALLS))):
            check(number, found)


def test_calls_inside_an_event_loop_keep_apart():
    """A notebook and a server call from a loop that runs already; the trainer gathers several rewards in one."""

    async def several():
        return await asyncio.gather(*(asyncio.to_thread(call, number) for number in range(NUM_CALLS)))

    for number, found in enumerate(asyncio.run(several())):
        check(number, found)

    async def directly():
        return [call(number) for number in range(30)]

    for number, found in enumerate(asyncio.run(directly())):
        check(number, found)


def test_one_object_in_tasks_of_one_loop():
    function = RewardFunction(reward)

    async def several():
        calls = (function.function([str(number)] * COUNT, ["w" * number] * COUNT) for number in range(NUM_CALLS))
        return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(several())
    assert [isinstance(one, Broken) for one in found] == [number % 10 == 3 for number in range(NUM_CALLS)]
