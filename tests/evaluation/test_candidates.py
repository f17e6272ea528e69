"""Labeled candidates: every curve against enumeration of all subsets."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from tiny_judges import pair_judge

from hf_reward_ext import evaluate_best_of_n

ANSWERS = np.random.default_rng(0).integers(0, 3, (6, 5))
REWARDS = np.random.default_rng(1).integers(0, 3, (6, 5)).astype(float)  # many ties
ROWS = [
    {
        "prompt": f"p{number}",
        "completions": [f"{number}:{place}:{answer}" for place, answer in enumerate(answers)],
        "labels": [int(answer == 0) for answer in answers],
    }
    for number, answers in enumerate(ANSWERS)
]


def table(prompts, responses):
    return [REWARDS[int(text.split(":")[0]), int(text.split(":")[1])] for text in responses]


def answer(text):
    return text.split(":")[2]


def majority(prompt, members, weigh):
    tally = defaultdict(float)
    for member in members:
        tally[ANSWERS[prompt, member]] += weigh(REWARDS[prompt, member])
    best = max(tally.values())
    winner = next(ANSWERS[prompt, member] for member in members if tally[ANSWERS[prompt, member]] > best - 1e-12)
    return float(winner == 0)


@pytest.mark.parametrize("k", range(1, 6))
def test_curves_equal_enumeration(k):
    result = evaluate_best_of_n(table, ROWS, extract_answer=answer, batch_size=7)
    cases = [(prompt, members) for prompt in range(6) for members in itertools.combinations(range(5), k)]
    best = [ANSWERS[p, max(s, key=lambda c, p=p: (REWARDS[p, c], -c))] == 0 for p, s in cases]
    expected = {
        "best-of-n": np.mean(best),
        "pass@k": np.mean([(ANSWERS[p, list(s)] == 0).any() for p, s in cases]),
        "majority": np.mean([majority(p, s, lambda reward: 1.0) for p, s in cases]),
        "weighted": np.mean([majority(p, s, np.exp) for p, s in cases]),
    }
    assert {name: curve[k].value for name, curve in result.items()} == pytest.approx(expected)


def test_without_answers_there_are_no_votes():
    result = evaluate_best_of_n(table, ROWS, ks=[2, 4])
    assert set(result) == {"best-of-n", "pass@k"} and set(result["pass@k"]) == {2, 4}
    np.testing.assert_array_equal(result.rewards, REWARDS)
    np.testing.assert_array_equal(result.correct, ANSWERS == 0)


def test_refusals():
    with pytest.raises(ValueError, match="'labels' missing"):
        evaluate_best_of_n(table, [{"prompt": "p", "completions": ["a"]}])
    with pytest.raises(ValueError, match=r"\[1, 2\] candidates or labels"):
        evaluate_best_of_n(table, [{"prompt": "p", "completions": ["a", "b"], "labels": [1]}])
    with pytest.raises(ValueError, match="must reward single completions"):
        evaluate_best_of_n(pair_judge(), ROWS)
