"""ProcessBench and PRMBench: rules on rows of their published schemas, against values by hand."""

import json

import pytest

from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.evaluation import evaluate_steps

# Rows as published: `label` is the first wrong step from 0, or -1; a step with an x is rejected by the scorer.
PROCESS = [
    {"id": "gsm8k-0", "problem": "p", "steps": ["a", "x", "c"], "final_answer_correct": False, "label": 1},
    {"id": "gsm8k-1", "problem": "p", "steps": ["a", "b"], "final_answer_correct": True, "label": 0},
    {"id": "gsm8k-2", "problem": "p", "steps": ["a", "b"], "final_answer_correct": True, "label": -1},
    {"id": "omni-math-0", "problem": "p", "steps": ["x"], "final_answer_correct": False, "label": 0},
    {"id": "omni-math-1", "problem": "p", "steps": ["x", "b"], "final_answer_correct": True, "label": -1},
]
# `error_steps` are numbers from 1.
PRM = [
    {"idx": "r1", "modified_question": "q", "modified_process": ["a", "x", "c"], "error_steps": [2],
     "classification": "confidence", "original_question": "q", "original_process": ["a"], "modified_steps": [2]},
    {"idx": "r2", "modified_question": "q", "modified_process": ["a", "b"], "error_steps": [1, 2],
     "classification": "circular", "original_question": "q", "original_process": ["a"], "modified_steps": [2]},
]  # fmt: skip


def last_has_no_x(prompts, texts):
    """A reward of the last step of a prefix: a log-odds."""
    return [-1.0 if "x" in text.split("\n\n")[-1] else 1.0 for text in texts]


def test_the_first_rejected_step_must_be_the_first_wrong_one():
    found = evaluate_steps(last_has_no_x, PROCESS, threshold=0)
    by_hand = {
        "error_accuracy/gsm8k": 1 / 2, "correct_accuracy/gsm8k": 1.0, "f1/gsm8k": 2 * 0.5 / 1.5,
        "error_accuracy/omni-math": 1.0, "correct_accuracy/omni-math": 0.0, "f1/omni-math": 0.0,
        "error_accuracy": 0.75, "correct_accuracy": 0.5, "f1": 1 / 3,
    }  # fmt: skip
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(by_hand)
    assert all(one.lower <= one.value <= one.upper for one in found.values())
    assert found.rows[0] == {"id": "gsm8k-0", "subset": "gsm8k", "rewards": [1.0, -1.0, 1.0]}
    assert "threshold 0" in found.to_markdown() and "33.3" in found.to_markdown()


def test_every_step_counts_in_prmbench():
    # Accepted and right: a, c of r1; accepted and wrong: a, b of r2; rejected and wrong: x of r1.
    found = evaluate_steps(last_has_no_x, PRM, "prmbench", threshold=0)
    f1, negative = 2 * 2 / (2 * 2 + 2), 2 * 1 / (2 * 1 + 2)
    assert found["f1"].value == pytest.approx(f1) and found["negative_f1"].value == pytest.approx(negative)
    assert found["prm_score"].value == pytest.approx((f1 + negative) / 2)
    assert found["prm_score/confidence"].value == 1.0 and found["prm_score/circular"].value == 0.0


def test_a_reward_is_that_of_the_solution_up_to_a_step():
    seen = []

    def scorer(prompts, texts):
        seen.extend(zip(prompts, texts, strict=True))
        return [0.5] * len(texts)

    evaluate_steps(scorer, PROCESS[:1], threshold=0.5, separator="\n")
    assert sorted(seen) == [("p", "a"), ("p", "a\nx"), ("p", "a\nx\nc")]


def test_prefixes_of_all_rows_share_batches_and_a_row_that_is_too_long_is_named():
    sizes = []

    def scorer(prompts, texts):
        sizes.append(len(texts))
        return [1.0] * len(texts)

    evaluate_steps(scorer, PROCESS, threshold=0, batch_size=4)
    assert sizes == [4, 4, 2]  # 10 steps

    def check(prompts, texts):
        if any("c" in text for text in texts):
            raise ValueError("too long")

    with pytest.raises(ValueError, match="Row 0 of the evaluated data: too long"):
        evaluate_steps(Scorer(scorer, check=check), PROCESS, threshold=0)


def test_results_have_all_forms_and_rows_without_subsets_have_none(tmp_path):
    found = evaluate_steps(last_has_no_x, PRM, "prmbench", threshold=0)
    assert json.loads(json.dumps(found.to_dict()))["threshold"] == 0 and found.rows_to_dataset().num_rows == 2
    kinds = {one.metric_name: (one.metric_type, one.dataset_type) for one in found.to_eval_results()}
    assert set(kinds.values()) == {("f1", "hitsmy/PRMBench_Preview")}
    found = evaluate_steps(last_has_no_x, [{**row, "id": "7"} for row in PROCESS], threshold=0)
    assert set(found) == {"f1", "error_accuracy", "correct_accuracy"}
    assert [one.metric_type for one in found.to_eval_results()] == ["f1", "accuracy", "accuracy"]


@pytest.mark.parametrize(("conversational", "seen"), [(None, str), (True, list), (False, str)])
def test_a_problem_may_be_a_users_message(conversational, seen):
    def scorer(prompts, texts):
        assert all(isinstance(prompt, seen) for prompt in prompts)
        return [1.0] * len(texts)

    evaluate_steps(scorer, PROCESS, threshold=0, conversational=conversational)


def test_rows_without_a_reward_are_counted():
    found = evaluate_steps(
        lambda prompts, texts: [None if "c" in text else 1.0 for text in texts], PROCESS, threshold=0
    )
    assert found.num_unanswered == 1 and found.rows[0]["rewards"] is None
    with pytest.raises(ValueError, match="must answer all steps of at least one row"):
        evaluate_steps(lambda prompts, texts: [None] * len(texts), PROCESS, threshold=0)


@pytest.mark.parametrize(
    ("row", "format", "message"),
    [
        ({"label": 3}, "processbench", "Row 0 of the ProcessBench rows: `label` must be the index .* 3 steps or -1"),
        ({"label": True}, "processbench", "got True"),
        ({"steps": []}, "processbench", "`steps` must be a list of at least one step"),
        ({"problem": None}, "processbench", "`problem` must be text, got None"),
        ({"id": 3}, "processbench", "`id` must be text, got 3"),
        ({"error_steps": [True]}, "prmbench", "`error_steps` must be numbers of steps from 1 to 3"),
        ({"error_steps": 2}, "prmbench", "`error_steps` must be numbers of steps from 1 to 3, got 2"),
        ({"error_steps": [0]}, "prmbench", "`error_steps` must be numbers of steps from 1 to 3"),
        ({"modified_process": "a"}, "prmbench", "`modified_process` must be a list"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_named(row, format, message):
    good = {"processbench": PROCESS, "prmbench": PRM}[format][0]
    with pytest.raises(ValueError, match=message):
        evaluate_steps(last_has_no_x, [{**good, **row}], format, threshold=0)


def test_what_it_cannot_evaluate_is_refused():
    with pytest.raises(ValueError, match="`format` must be one of 'processbench', 'prmbench'"):
        evaluate_steps(last_has_no_x, PROCESS, "rewardbench", threshold=0)
    with pytest.raises(ValueError, match="'label' missing"):
        evaluate_steps(last_has_no_x, [{"id": "a-1", "problem": "p", "steps": ["a"]}], threshold=0)
    with pytest.raises(ValueError, match="`threshold` must be"):
        evaluate_steps(last_has_no_x, PROCESS, threshold=float("nan"))
