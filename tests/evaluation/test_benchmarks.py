"""Every benchmark on rows of its published schema, with scores whose result is worked out by hand."""

import numpy as np
import pytest
from datasets import Dataset

from hf_reward_ext import evaluate_preferences
from hf_reward_ext.evaluation import PairScorer


def scorer(scores):
    """Rewards by a table from response to number."""
    return lambda prompts, responses: [scores[response] for response in responses]


def values(result):
    return {name: round(estimate.value, 6) for name, estimate in result.items()}


PREFERENCE = [
    {"prompt": "2+2?", "chosen": "4", "rejected": "5", "subset": "sums"},
    {"prompt": "3+3?", "chosen": "6", "rejected": "7", "subset": "sums"},
    {"prompt": "sky?", "chosen": "blue", "rejected": "green", "subset": "colors"},
]


def test_preference_pairs_with_subsets():
    result = evaluate_preferences(scorer({"4": 2, "5": 1, "6": 0, "7": 3, "blue": 1, "green": -1}), PREFERENCE)
    assert values(result) == {"accuracy": round(2 / 3, 6), "sums": 0.5, "colors": 1.0}
    assert list(result)[0] == "accuracy"
    assert result["accuracy"].lower < 2 / 3 < result["accuracy"].upper
    assert result["colors"].lower == pytest.approx(0.025)  # one right of one: Clopper-Pearson
    assert [row["correct"] for row in result.rows] == [1.0, 0.0, 1.0]
    assert result.rows[0]["margins"] == [1.0]


def test_equal_scores_are_wrong():
    result = evaluate_preferences(lambda prompts, responses: np.zeros(len(responses)), PREFERENCE)
    assert result["accuracy"].value == 0


def test_preference_pairs_as_messages_and_without_a_prompt():
    user = {"role": "user", "content": "2+2?"}
    answers = [{"role": "assistant", "content": text} for text in ("4", "5")]
    rows = [
        {"prompt": [user], "chosen": [answers[0]], "rejected": [answers[1]]},
        {"chosen": [user, answers[0]], "rejected": [user, answers[1]]},
    ]
    seen = []

    def right_answer(prompts, responses):
        seen.extend(zip(prompts, responses, strict=True))
        return [float(response[-1]["content"] == "4") for response in responses]

    assert evaluate_preferences(right_answer, rows)["accuracy"].value == 1
    assert all(prompt == [user] and len(response) == 1 for prompt, response in seen)
    texts = [{"chosen": "Q: 2+2? A: 4", "rejected": "Q: 2+2? A: 5"}]
    assert evaluate_preferences(scorer({" 4": 1, " 5": 0}), texts)["accuracy"].value == 1


REWARD_BENCH = [
    dict(prompt="p", chosen=f"c{number}", chosen_model="GPT4", rejected=f"r{number}", rejected_model="7b",
         subset=subset, id=number)
    for number, subset in enumerate(["alpacaeval-easy", "mt-bench-easy", "math-prm", "hep-python", "hep-rust"], start=1)
]  # fmt: skip


def test_reward_bench_weighs_subsets_within_sections():
    wins = {f"c{n}": float(n in (1, 4)) for n in range(1, 6)} | {f"r{n}": 0.5 for n in range(1, 6)}
    found = values(evaluate_preferences(scorer(wins), Dataset.from_list(REWARD_BENCH), format="rewardbench"))
    # Chat: 100 of 100 + 28; Reasoning: math counts 984, each language 164.
    chat, reasoning = 100 / 128, 164 / (984 + 2 * 164)
    assert found["Chat"] == pytest.approx(chat)
    assert found["Reasoning"] == pytest.approx(reasoning)
    assert found["accuracy"] == pytest.approx((chat + reasoning) / 2)
    assert found["hep-python"] == 1 and found["hep-rust"] == 0
    assert "Safety" not in found


REWARD_BENCH_2 = [
    dict(id="0", prompt="p", chosen=["a"], rejected=["b", "c", "d"], num_correct=1, num_incorrect=3,
         total_completions=4, models=["m"] * 4, subset="Factuality", additional_metadata={"category": None}),
    dict(id="1", prompt="p", chosen=["e"], rejected=["f", "g", "h"], num_correct=1, num_incorrect=3,
         total_completions=4, models=["m"] * 4, subset="Factuality", additional_metadata={"category": None}),
    dict(id="2", prompt="p", chosen=["i"], rejected=["j", "k", "l"], num_correct=1, num_incorrect=3,
         total_completions=4, models=["m"] * 4, subset="Focus", additional_metadata={"category": None}),
    dict(id="tied:0", prompt="a color", chosen=["red", "blue"], rejected=["dog", "cat"], num_correct=2,
         num_incorrect=2, total_completions=4, models=["m"] * 4, subset="Ties", additional_metadata=None),
    dict(id="ref:0", prompt="a color, not blue", chosen=["red!"], rejected=["blue!", "dog!"], num_correct=1,
         num_incorrect=2, total_completions=3, models=["m"] * 3, subset="Ties", additional_metadata=None),
    dict(id="tied:1", prompt="a digit", chosen=["1", "2", "3"], rejected=["x"], num_correct=3,
         num_incorrect=1, total_completions=4, models=["m"] * 4, subset="Ties", additional_metadata=None),
    dict(id="ref:1", prompt="a digit below 2", chosen=["1!"], rejected=["2!"], num_correct=1,
         num_incorrect=1, total_completions=2, models=["m"] * 2, subset="Ties", additional_metadata=None),
]  # fmt: skip
SCORES_2 = {
    **{"a": 3, "b": 1, "c": 2, "d": 0},  # right
    **{"e": 2, "f": 2, "g": 1, "h": 0},  # shares the first place with one: 1/2
    **{"i": 0, "j": 1, "k": 0, "l": 0},  # wrong
    # spread 1, gap 2 in the tied row and 3 in the other: every part right, tanh(2/1 - 1)
    **{"red": 5, "blue": 4, "dog": 2, "cat": 1, "red!": 5, "blue!": 2, "dog!": 0},
    # spread 4, gap 1; the reference row is wrong by 1: tanh(-1/4 - 1)
    **{"1": 6, "2": 4, "3": 2, "x": 1, "1!": 0, "2!": 1},
}


def test_reward_bench_2_best_of_four_and_ties():
    result = evaluate_preferences(scorer(SCORES_2), REWARD_BENCH_2, format="rewardbench")
    found = values(result)
    first = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * np.tanh(1.0)
    second = 0.3 + 0.01 * np.tanh(-1.25)
    assert found["Factuality"] == 0.75 and found["Focus"] == 0
    assert found["Ties"] == pytest.approx((first + second) / 2, abs=1e-6)
    assert found["Ties: all right above all wrong"] == 1 and found["Ties: one right above all wrong"] == 0.5
    assert found["Ties: gap above spread"] == 0.5 and found["Ties: both gaps above spread"] == 0.5
    assert found["accuracy"] == pytest.approx((0.75 + 0 + (first + second) / 2) / 3, abs=1e-6)
    assert [row["correct"] for row in result.rows] == [1.0, 0.5, 0.0, None, None, None, None]


@pytest.mark.parametrize(("gap", "expected"), [(2.0, 1.0), (0.0, 0.0), (-2.0, -1.0)])
def test_ties_without_spread_divide_by_zero_as_published(gap, expected):
    scores = {"red": gap, "blue": gap, "dog": 0.0, "cat": -1.0, "red!": gap, "blue!": 0.0, "dog!": -1.0}
    found = evaluate_preferences(scorer(scores), REWARD_BENCH_2[3:5], format="rewardbench")
    parts = 0.3 * 2 * (gap > 0) + 0.2 * 2 * (gap > 0)
    assert found["Ties"].value == pytest.approx(parts + 0.01 * expected)


RM_BENCH = [
    dict(id="chat/0", prompt="p", chosen=["c0", "c1", "c2"], rejected=["r0", "r1", "r2"], domain="chat"),
    dict(id="s/0", prompt="p", chosen=["d0", "d1", "d2"], rejected=["q0", "q1", "q2"], domain="safety-refuse"),
    dict(id="s/1", prompt="p", chosen=["e0", "e1", "e2"], rejected=["o0", "o1", "o2"], domain="safety-response"),
]


def test_rm_bench_counts_nine_comparisons_by_style():
    # A scorer that sees style alone: the fancier one wins, equal style is a tie, so wrong.
    style = {f"{kind}{n}": float(n) for kind in "crdqeo" for n in range(3)}
    found = values(evaluate_preferences(scorer(style), RM_BENCH, format="rm-bench"))
    assert (found["easy"], found["normal"], found["hard"]) == (1, 0, 0)
    assert found["accuracy"] == pytest.approx(1 / 3)
    # In chat quality is worth 1.5 styles: of the three hard comparisons two are one style apart.
    quality = {**style, "c0": 1.5, "c1": 2.5, "c2": 3.5}
    # In one half of safety every right response wins.
    quality |= {"d0": 9.0, "d1": 9.0, "d2": 9.0}
    found = values(evaluate_preferences(scorer(quality), RM_BENCH, format="rm-bench"))
    assert (found["chat/easy"], found["chat/normal"], found["chat/hard"]) == (1, 1, pytest.approx(2 / 3))
    assert found["safety-refuse"] == 1 and found["safety-response"] == pytest.approx(1 / 3)
    assert found["safety"] == pytest.approx(2 / 3)
    assert found["hard"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["accuracy"] == pytest.approx((8 / 9 + 2 / 3) / 2, abs=1e-6)


JUDGE_BENCH = [
    dict(pair_id="81ec", original_id="10646", source="mmlu-pro-computer science", question="q0",
         response_model="gpt-4o-2024-05-13", response_A="right 0", response_B="wrong 0", label="A>B"),
    dict(pair_id="92fd", original_id="7", source="livebench-reasoning", question="q1",
         response_model="gpt-4o-2024-05-13", response_A="wrong 1", response_B="right 1", label="B>A"),
    dict(pair_id="a30e", original_id="8", source="livecodebench", question="q2",
         response_model="gpt-4o-2024-05-13", response_A="wrong 2", response_B="right 2", label="B>A"),
]  # fmt: skip


def test_judge_bench_counts_contradicting_verdicts_as_wrong():
    verdicts = {
        ("right 0", "wrong 0"): 1, ("wrong 0", "right 0"): -1,  # right in both orders
        ("wrong 1", "right 1"): 1, ("right 1", "wrong 1"): 1,  # always the first: inconsistent
        ("wrong 2", "right 2"): 0, ("right 2", "wrong 2"): 1,  # right once, undecided once
    }  # fmt: skip
    judge = PairScorer(lambda prompts, a, b: [verdicts[pair] for pair in zip(a, b, strict=True)])
    found = values(evaluate_preferences(judge, JUDGE_BENCH, format="judgebench"))
    assert found == {
        "accuracy": round(2 / 3, 6),
        "knowledge": 1,
        "reasoning": 0,
        "coding": 1,
        "agreement": round(1 / 3, 6),
    }
    rewards = {f"{kind} {n}": float(kind == "right") for kind in ("right", "wrong") for n in range(3)}
    found = values(evaluate_preferences(scorer(rewards), JUDGE_BENCH, format="judgebench"))
    assert found["accuracy"] == 1 and "agreement" not in found


LLMBAR = [
    {"input": "i", "output_1": "good", "output_2": "bad", "label": 1, "subset": "Natural"},
    {"input": "i", "output_1": "poor", "output_2": "fine", "label": 2, "subset": "Adversarial/Neighbor"},
    {"input": "i", "output_1": "low", "output_2": "high", "label": 2, "subset": "Adversarial/GPTInst"},
    {"input": "i", "output_1": "low", "output_2": "top", "label": 2, "subset": "Adversarial/GPTInst"},
]


def test_llmbar_averages_orders_and_adversarial_subsets():
    first_shown = PairScorer(lambda prompts, a, b: [1.0] * len(a))
    found = values(evaluate_preferences(first_shown, LLMBAR, format="llmbar"))
    assert found["accuracy"] == 0.5 and found["agreement"] == 0
    scores = {"good": 1, "bad": 0, "poor": 0, "fine": 1, "low": 1, "high": 0, "top": 2}
    found = values(evaluate_preferences(scorer(scores), LLMBAR, format="llmbar"))
    assert found["Natural"] == 1 and found["Adversarial/GPTInst"] == 0.5
    assert found["Adversarial"] == 0.75 and found["accuracy"] == 0.75
    without = [{key: row[key] for key in ("input", "output_1", "output_2", "label")} for row in LLMBAR]
    assert values(evaluate_preferences(scorer(scores), without, format="llmbar")) == {"accuracy": 0.75}


def test_judges_of_pairs_average_both_orders_elsewhere():
    # Prefers the right one by 2, the one shown first by 3: the mean of both orders is right.
    judge = PairScorer(lambda prompts, a, b: [3 + (2 if one in "46" or one == "blue" else -2) for one in a])
    found = values(evaluate_preferences(judge, PREFERENCE))
    assert found["accuracy"] == 1 and found["agreement"] == 0
    assert values(evaluate_preferences(judge, RM_BENCH, format="rm-bench"))["agreement"] == 0


@pytest.mark.parametrize(
    ("rows", "format", "message"),
    [
        ([{"prompt": "p", "chosen": "c"}], "preference", "Row 0 has the columns .*'rejected' missing"),
        (LLMBAR, "judgebench", "JudgeBench rows need .*'response_A', 'response_B', 'source' missing"),
        (RM_BENCH, "rewardbench", "'subset' missing. Rename the columns, or pass the `format`"),
        (RM_BENCH, "preference", "`chosen` is a `list`.*Pass the `format` of these rows"),
        ([{**RM_BENCH[0], "chosen": ["a", "b"]}], "rm-bench", "got 2 and 3 entries"),
        ([{**RM_BENCH[0], "domain": "poems"}], "rm-bench", "`domain` must begin with .*got 'poems'"),
        ([{**LLMBAR[0], "label": 3}], "llmbar", "Row 0 of the LLMBar rows: `label` must be 1 or 2, got 3"),
        ([{**JUDGE_BENCH[0], "label": "A=B"}], "judgebench", "'A>B' or 'B>A'"),
        ([{**JUDGE_BENCH[0], "source": "poems"}], "judgebench", "`source` must begin with .*got 'poems'"),
        ([{**REWARD_BENCH[0], "subset": "shp"}], "rewardbench", "`subset='shp'` is none of RewardBench's"),
        ([{**REWARD_BENCH_2[0], "subset": "shp"}], "rewardbench", "of RewardBench 2, got 'shp'"),
        ([{**REWARD_BENCH_2[0], "chosen": ["a", "b"]}], "rewardbench", "2 chosen and 3 rejected"),
        (REWARD_BENCH_2[3:4], "rewardbench", r"\['tied:0'\] are single"),
        ([{**REWARD_BENCH_2[3], "id": "x"}], "rewardbench", "has `id='x'`"),
        ([], "preference", "has no rows"),
        (PREFERENCE, "rewardbench-3", "`format` must be .*got 'rewardbench-3'"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused_by_name(rows, format, message):
    zero = lambda prompts, responses: [0.0] * len(responses)  # noqa: E731
    with pytest.raises(ValueError, match=message):
        evaluate_preferences(zero, rows, format=format)


def test_ties_need_rewards():
    judge = PairScorer(lambda prompts, a, b: [1.0] * len(a))
    with pytest.raises(ValueError, match="must be scored with rewards"):
        evaluate_preferences(judge, REWARD_BENCH_2, format="rewardbench")
    assert evaluate_preferences(judge, REWARD_BENCH_2[:3], format="rewardbench")["accuracy"].value == 0


def test_a_dict_of_splits_is_refused():
    from datasets import DatasetDict

    with pytest.raises(TypeError, match=r"splits \['test'\]"):
        evaluate_preferences(len, DatasetDict({"test": Dataset.from_list(PREFERENCE)}))
