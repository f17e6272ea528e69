"""Malformed data before any of the four trainers: refused before a model is loaded, with row and column."""

import re

import pytest
from datasets import Dataset, DatasetDict, IterableDataset
from malformed_rows import BAD, CHAT, TEXT, good_row
from method_trainers import CLASSES, trainer_of

NOWHERE = "no/such-model"  # loading it would fail with other words
PROMPT_IDS = {"prompt_ids": [3], "chosen_ids": [5], "rejected_ids": [6]}


def dataset_of(rows):
    return Dataset.from_list(rows, on_mixed_types="use_json")


def fits_arrow(name):
    row = BAD[name][0]
    try:
        rows = dataset_of([good_row(row), row])
    except (ValueError, TypeError):  # lone surrogates
        return False
    return set(row) == set(rows.column_names) and name != "bytes"  # which become text


IN_TABLES = [name for name in BAD if fits_arrow(name)]


def refused(method, folder, data, message, evaluation=None, kind=ValueError, **settings):
    with pytest.raises(kind, match=re.compile(message, re.DOTALL)):
        trainer_of(method, folder, data, evaluation, model=NOWHERE, **settings)


@pytest.mark.parametrize("method", CLASSES)
@pytest.mark.parametrize("name", IN_TABLES)
def test_a_malformed_row_is_named_before_a_model_is_loaded(method, name, tmp_path):
    row, message = BAD[name]
    rows = [good_row(row), good_row(row), row, good_row(row)]
    if method == "Fast-Slow" and "chosen_ids" in row:
        message = "a judge learns from pairs.*token ids cannot be used"
    elif method == "ELHSR" and "margin" in row:
        message = "`margin` must not be a column of ELHSR's data"
    else:
        message = f"Row 2 of the train data: .*{message}"
    refused(method, tmp_path, dataset_of(rows), message)


def test_most_of_the_table_is_tried():
    assert len(IN_TABLES) > 35


@pytest.mark.parametrize("method", CLASSES)
def test_evaluation_sets_are_checked_by_name(method, tmp_path):
    bad = Dataset.from_list([TEXT, {**TEXT, "rejected": None}])
    good = Dataset.from_list([TEXT])
    refused(method, tmp_path, good, "Row 1 of the eval data: `rejected`", bad)
    refused(method, tmp_path, good, "Row 1 of the math data: `rejected`", {"code": good, "math": bad})


@pytest.mark.parametrize("method", CLASSES)
@pytest.mark.parametrize("name", [name for name in BAD if name not in ("no rejected",)])
def test_streamed_rows_are_named_as_they_come(method, name, tmp_path):
    row, message = BAD[name]
    if method == "Fast-Slow" and "chosen_ids" in row or method == "ELHSR" and "margin" in row:
        return  # refused by their columns, above
    rows = [good_row(row), good_row(row), row]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    settings = {"feature_cache": "none"} if method == "ELHSR" else {}
    trainer = trainer_of(method, tmp_path, stream, **settings)
    with pytest.raises(ValueError, match=re.compile(f"Row 2 of the train data: .*{message}", re.DOTALL)):
        list(trainer.train_dataset)


@pytest.mark.parametrize("method", CLASSES)
def test_data_without_rows_or_of_another_type(method, tmp_path):
    rows = Dataset.from_list([TEXT])
    refused(method, tmp_path, None, "The train data must be a `Dataset`.*got None")
    refused(method, tmp_path, DatasetDict(train=rows, test=rows), r"splits \['train', 'test'\]", kind=TypeError)
    refused(method, tmp_path, [TEXT], "Dataset.from_list", kind=TypeError)
    refused(method, tmp_path, Dataset.from_list([]), "The train data has no rows")
    refused(method, tmp_path, rows.select([]), "The train data has no rows")
    refused(method, tmp_path, IterableDataset.from_generator(list), "The train data has no rows")
    refused(method, tmp_path, rows, "The eval data has no rows", rows.select([]))
    refused(method, tmp_path, Dataset.from_list([{"text": "w1"}]), r"columns \['text'\]")
    same = Dataset.from_list([{**TEXT, "rejected": TEXT["chosen"]}] * 3)
    refused(method, tmp_path, same, "equal in all 3 rows of the train data")


@pytest.mark.parametrize("method", CLASSES)
def test_max_length_that_leaves_nothing(method, tmp_path):
    with pytest.raises(ValueError, match="`max_length=2`"):
        trainer_of(method, tmp_path, Dataset.from_list([TEXT]), max_length=2)


LABELED = {"prompt": "w1 w2", "completion": " w3", "label": 1.0}
GROUPED = {"prompt": "w1 w2", "completions": [" w3", " w4"], "labels": [1.0, 0.0]}
BAD_LABELS = {
    "NaN": ({**LABELED, "label": float("nan")}, "`label` must be a finite number, got nan"),
    "infinite": ({**LABELED, "label": float("inf")}, "`label` must be a finite number, got inf"),
    "None": ({**LABELED, "label": None}, "`label` must be a finite number, got None"),
    "text": ({**LABELED, "label": "good"}, "`label` must be a finite number, got 'good'"),
    "out of range": ({**LABELED, "label": -1.0}, "`label` must be from 0 .* got -1"),
    "no completion": ({**LABELED, "completion": ""}, "`completion` must have text"),
    "no prompt": ({**LABELED, "prompt": None}, "`prompt` must be text or a list of messages"),
    "NaN among others": ({**GROUPED, "labels": [1.0, float("nan")]}, r"`labels\[1\]` must be a finite number, got nan"),
    "one label for two": ({**GROUPED, "labels": [1.0]}, "has 2 completions and 1 labels"),
    "empty candidate": ({**GROUPED, "completions": [" w3", ""]}, r"`completions\[1\]` must have text"),
    "no list": ({**GROUPED, "completions": " w3"}, "`completions` must be a list"),
    "no labels": ({**GROUPED, "labels": []}, "`labels` must be a list of numbers"),
    "ids": ({"prompt_ids": [3], "completion_ids": [], "label": 1.0}, "`completion_ids` must not be empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_and_candidates_of_elhsr(name, tmp_path):
    row, message = BAD_LABELS[name]
    good = {"prompt_ids": [3], "completion_ids": [5], "label": 0.0} if "prompt_ids" in row else LABELED
    good = GROUPED if "labels" in row else good
    refused("ELHSR", tmp_path, dataset_of([good, row, good]), f"Row 1 of the train data: .*{message}")


def test_labels_of_losses_that_compare_may_be_any_number(tmp_path):
    rows = [{**GROUPED, "labels": [3.5, -2.0]}] * 4
    trainer_of("ELHSR", tmp_path, Dataset.from_list(rows), loss_type="nca").train()


WRITTEN = {"about": "chosen", "first_verdict": "w10", "text": " w20", "verdict": "w10"}
BAD_JUDGMENTS = {
    "no list": ("w10", "`judgments` must be a list, got 'w10'"),
    "no text": ([{**WRITTEN, "text": None}], r"`judgments\[0\]` must have the texts .* got None for 'text'"),
    "about another": ([{**WRITTEN, "about": "both"}], r"`judgments\[0\]\['about'\]` must be 'chosen' or 'rejected'"),
    "another verdict": ([{**WRITTEN, "verdict": "A"}], r"`judgments` must have the verdicts .* got \['A'\]"),
}


@pytest.mark.parametrize("name", BAD_JUDGMENTS)
def test_judgments_of_fast_slow(name, tmp_path):
    judgments, message = BAD_JUDGMENTS[name]
    rows = [{**TEXT, "judgments": [WRITTEN]}, {**TEXT, "judgments": judgments}]
    refused("Fast-Slow", tmp_path, dataset_of(rows), f"Row 1 of the train data: .*{message}")


def test_what_a_judge_cannot_show_is_refused(tmp_path):
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    refused("Fast-Slow", tmp_path, Dataset.from_list([{**CHAT, "tools": tools}]), "Row 0.*`tools` must not be in")
    kwargs = {"chat_template_kwargs": {"deep": True}}
    refused("Fast-Slow", tmp_path, Dataset.from_list([{**CHAT, **kwargs}]), "`chat_template_kwargs` must not be in")
