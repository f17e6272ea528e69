"""Results as JSON, dataset, Markdown, plot and model card."""

import json

import pytest
from huggingface_hub import ModelCard

from hf_reward_ext import evaluate_best_of_n, evaluate_preferences
from hf_reward_ext.evaluation import add_to_model_card

ROWS = [{"input": "i", "output_1": "a" * n, "output_2": "b", "label": 1 + n % 2, "subset": "Natural"} for n in range(9)]
CANDIDATES = [{"prompt": "p", "completions": ["a", "bb", "cc"], "labels": [0, 1, n % 2]} for n in range(6)]


def length(prompts, responses):
    return [float(len(response)) for response in responses]


@pytest.fixture
def pairs():
    return evaluate_preferences(length, ROWS, format="llmbar")


@pytest.fixture
def candidates():
    return evaluate_best_of_n(length, CANDIDATES, extract_answer=lambda text: text)


def test_json(pairs, candidates):
    found = json.loads(json.dumps(pairs.to_dict()))
    assert found["scorer"] == "length" and found["num_rows"] == 9 and found["format"] == "llmbar"
    assert found["estimates"]["accuracy"]["value"] == pairs["accuracy"].value
    found = json.loads(json.dumps(candidates.to_dict()))
    assert found["num_prompts"] == 6 and found["num_candidates"] == 3
    assert found["estimates"]["best-of-n@3"]["value"] == 1


def test_datasets(pairs, candidates):
    dataset = pairs.to_dataset()
    assert dataset.column_names == ["name", "value", "lower", "upper"] and dataset["name"][0] == "accuracy"
    rows = pairs.rows_to_dataset()
    assert rows.num_rows == 9 and rows[3]["chosen_scores"] == [1.0] and rows[3]["rejected_scores"] == [3.0]
    assert set(candidates.to_dataset()["name"]) == {
        f"{name}@{k}" for name in ("best-of-n", "pass", "majority", "weighted") for k in (1, 2, 3)
    }


def test_markdown(pairs, candidates):
    shown = pairs.to_markdown()
    assert shown.startswith("length on 9 llmbar rows; 95% bootstrap intervals.")
    value = pairs["accuracy"]
    assert f"| accuracy | {100 * value.value:.1f} | {100 * value.lower:.1f} to {100 * value.upper:.1f} |" in shown
    assert "| best-of-n@3 | 100.0 |" in candidates.to_markdown()


def test_plots(pairs, candidates, tmp_path):
    pairs.plot(tmp_path / "bars.png")
    candidates.plot(tmp_path / "curves.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("bars.png", "curves.png"))


def test_a_model_card_gets_the_results_and_keeps_others(pairs, candidates, tmp_path):
    (tmp_path / "README.md").write_text("---\ntags:\n- x\n---\n\n# A judge\n")
    add_to_model_card(tmp_path, pairs.to_eval_results(), model_name="me/judge")
    add_to_model_card(tmp_path, candidates.to_eval_results("Sums", "me/sums", "test"))
    add_to_model_card(tmp_path, pairs.to_eval_results())  # again: replaced, not doubled
    card = ModelCard.load(tmp_path / "README.md")
    found = {(one.dataset_name, one.metric_name): one for one in card.data.eval_results}
    assert len(card.data.eval_results) == len(found) == len(pairs) + 12
    accuracy = found["LLMBar", "accuracy"]
    assert accuracy.metric_value == round(pairs["accuracy"].value, 6) and accuracy.metric_type == "accuracy"
    assert accuracy.metric_args["lower"] == round(pairs["accuracy"].lower, 6)
    assert found["Sums", "pass@2"].dataset_split == "test"
    assert card.data.model_name == "me/judge" and card.data.tags == ["x"]
    assert "# A judge" in card.text


def test_a_card_says_on_which_data(pairs, tmp_path):
    plain = evaluate_preferences(length, [{"prompt": "p", "chosen": "aa", "rejected": "b"}])
    with pytest.raises(ValueError, match="must be given for 'preference' rows.*Pass both"):
        plain.to_eval_results()
    assert plain.to_eval_results("Mine", "me/mine")[0].dataset_type == "me/mine"
    with pytest.raises(ValueError, match="added to a card"):
        add_to_model_card(tmp_path, pairs.to_eval_results())


def test_version_two_of_reward_bench_names_itself():
    row = dict(id="0", prompt="p", chosen=["aa"], rejected=["b", "c", "d"], subset="Focus")
    results = evaluate_preferences(length, [row], format="rewardbench").to_eval_results()
    assert {result.dataset_type for result in results} == {"allenai/reward-bench-2"}


def test_calibration_comes_from_the_margins(pairs):
    assert pairs.calibration().nll > 0
