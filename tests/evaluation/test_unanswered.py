"""Rows for which a scorer has no answer are left out and counted, in every benchmark."""

import json

import numpy as np
import pytest
from datasets import Dataset

from hf_reward_ext import evaluate_best_of_n, evaluate_preferences
from hf_reward_ext.evaluation import PairScorer

ROWS = [{"prompt": f"p{n}", "chosen": "good", "rejected": "bad", "id": str(n)} for n in range(6)]
BENCH_2 = [
    {"prompt": "q0", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math", "id": "m0"},
    {"prompt": "q1", "chosen": ["a", "aa"], "rejected": ["b"], "subset": "Ties", "id": "tied:1"},
    {"prompt": "q2", "chosen": ["a"], "rejected": ["b"], "subset": "Ties", "id": "ref:1"},
    {"prompt": "q3", "chosen": ["a", "aa"], "rejected": ["b"], "subset": "Ties", "id": "tied:2"},
    {"prompt": "q4", "chosen": ["a"], "rejected": ["b"], "subset": "Ties", "id": "ref:2"},
]


def silent_on(*prompts):
    """Prefers what has an "a" or "g" in it, and has no answer to some prompts."""

    def score(asked, responses):
        pairs = zip(asked, responses, strict=True)
        return [None if prompt in prompts else float(text[0] in "ag") for prompt, text in pairs]

    return score


def test_pairs():
    result = evaluate_preferences(silent_on("p1", "p4"), ROWS, batch_size=3)
    assert result["accuracy"].value == 1 and result.num_unanswered == 2
    assert [row["correct"] for row in result.rows] == [1, None, 1, 1, None, 1]
    assert result.rows[1]["margins"] == [None] and result.rows[1]["chosen_scores"] == [None]
    assert "on 6 preference rows, 2 of them without an answer;" in result.to_markdown()
    assert json.loads(json.dumps(result.to_dict()))["num_unanswered"] == 2
    assert result.rows_to_dataset().num_rows == 6
    assert result.calibration().nll > 0
    with pytest.raises(ValueError, match="`score` must answer at least one row, got `None`"):
        evaluate_preferences(silent_on(*(row["prompt"] for row in ROWS)), ROWS)


def test_judges_of_pairs():
    def log_odds(prompts, a, b):
        return [None if p == "p1" else float(x == "good") - 0.5 for p, x in zip(prompts, a, strict=True)]

    result = evaluate_preferences(PairScorer(log_odds), ROWS)
    assert result["accuracy"].value == 1 and result.num_unanswered == 1 and result["agreement"].value == 1
    with pytest.raises(ValueError, match="NaN or infinity for 6 of 6 responses"):
        evaluate_preferences(PairScorer(lambda prompts, a, b: [np.nan] * len(a)), ROWS)


@pytest.mark.parametrize(("silent", "unanswered"), [("q0", 1), ("q1", 2), ("q4", 2)])
def test_both_rows_of_a_tie_go_together(silent, unanswered):
    result = evaluate_preferences(silent_on(silent), BENCH_2, "rewardbench")
    assert result.num_unanswered == unanswered
    assert ("Math" in result) == (silent != "q0") and "Ties" in result


def test_candidates():
    rows = [
        {"prompt": "p", "completions": ["wrong", "good", "silence"], "labels": [0, 1, 0]},
        {"prompt": "none", "completions": ["x", "y", "z"], "labels": [1, 1, 1]},
    ]

    def score(prompts, completions):
        return [None if prompt == "none" or text == "silence" else float(text == "good") - 5
                for prompt, text in zip(prompts, completions, strict=True)]  # fmt: skip

    result = evaluate_best_of_n(score, rows, extract_answer=str)
    assert result.num_unanswered == 1 and result.to_dict()["num_prompts"] == 1
    assert result["best-of-n"][3].value == 1 and result["best-of-n"][2].value == pytest.approx(2 / 3)
    np.testing.assert_equal(result.rewards, [[-5, -4, np.nan]])
    assert result["weighted"][3].value == 1  # the silent one has no weight
    with pytest.raises(ValueError, match="`score` must reward a candidate of at least one prompt"):
        evaluate_best_of_n(score, rows[1:])


def test_ultrafeedbacks_rows_are_read():
    side = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "good"}]
    rows = Dataset.from_list([{"prompt": "p", "chosen": side, "rejected": [side[0], {**side[1], "content": "bad"}]}])
    seen = []

    def score(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [float(response[0]["content"] == "good") for response in responses]

    assert evaluate_preferences(score, rows)["accuracy"].value == 1
    assert [prompt for prompt, _ in seen] == [side[:1]] * 2
    assert {response[0]["content"] for _, response in seen} == {"good", "bad"}
