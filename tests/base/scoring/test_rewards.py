"""What a scorer returned is one real, finite number or `None` per completion."""

from collections import namedtuple
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from hf_reward_ext.base.scoring.rewards import check_rewards

PROMPTS = ["p", "q"]


async def later():
    return 1.0


@pytest.mark.parametrize(
    "returned",
    [
        [1, 2.0],
        (1.0, 2),
        [True, np.float32(2)],
        [Fraction(1), Decimal(2)],
        [torch.tensor(1.0), torch.tensor([2.0])],
        [np.array(1), np.array([[2.0]])],
        torch.tensor([1, 2]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True),
        np.array([1.0, 2.0]),
        np.array([1, 2], dtype=object),
        (value for value in (1, 2)),
        namedtuple("Pair", "a b")(1, 2),
    ],
)
def test_numbers_of_any_kind(returned):
    assert check_rewards(returned, PROMPTS, "score") == [1.0, 2.0]


def test_no_answer_stays_none():
    assert check_rewards([None, 2], PROMPTS, "score") == [None, 2.0]
    assert check_rewards([float("nan"), 2], PROMPTS, "score", nan_is_missing=True) == [None, 2.0]
    assert check_rewards([], [], "score") == []


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (None, TypeError, "returned a `NoneType`"),
        (1.0, TypeError, "returned a `float`"),
        ("12", TypeError, "returned a `str`"),
        ({0: 1.0, 1: 2.0}, TypeError, "returned a `dict`"),
        ({1.0, 2.0}, TypeError, "returned a `set`"),
        ([1.0], ValueError, r"shape \(1,\) for 2"),
        ([1.0, 2.0, 3.0], ValueError, r"shape \(3,\) for 2"),
        (torch.ones(2, 1), ValueError, r"shape \(2, 1\) for 2"),
        (torch.tensor(1.0), ValueError, r"shape \(\) for 2"),
        (np.ones((2, 2)), ValueError, r"shape \(2, 2\) for 2"),
        ([1.0, "2"], TypeError, "returned a `str` for response 1, to the prompt 'q'"),
        ([1j, 1.0], TypeError, "returned a `complex` for response 0, to the prompt 'p'"),
        (torch.tensor([1.0, 1j]), TypeError, "returned a `complex` for response 0"),
        ([1.0, [2.0]], TypeError, "returned a `list` for response 1"),
        ([1.0, torch.ones(2)], TypeError, "returned a `Tensor` for response 1"),
        ([1.0, float("nan")], ValueError, "NaN or infinity for 1 of 2 responses, first for response 1"),
        (
            torch.tensor([torch.nan, torch.inf]),
            ValueError,
            "NaN or infinity for 2 of 2 responses, first for",
        ),
        ([-float("inf"), 1.0], ValueError, "first for response 0, to the prompt 'p'"),
    ],
)
def test_anything_else_is_refused_by_its_place(returned, error, message):
    with pytest.raises(error, match=message):
        check_rewards(returned, PROMPTS, "score")


def test_a_coroutine_among_the_rewards_is_refused():
    waiting = later()
    with pytest.raises(TypeError, match="returned a `coroutine` for response 1"):
        check_rewards([1.0, waiting], PROMPTS, "score")
    waiting.close()
