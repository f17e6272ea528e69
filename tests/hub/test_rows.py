"""Rows of commands and writers as datasets of the Hub, with a card that explains every column."""

from dataclasses import fields
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from fake_hub import hub, snippet_of  # noqa: F401
from huggingface_hub import DatasetCard

from hf_reward_ext.best_of_n import preference_rows, sft_rows
from hf_reward_ext.cli.bon_rows import record_candidates
from hf_reward_ext.fast_slow.judge.judgment import Judgment
from hf_reward_ext.hub import push_rows, save_rows
from hf_reward_ext.hub.columns import COLUMNS

GROUP = [
    {"generated_text": text, "score": score, "num_tokens": 2, "answer": text, "probability": 0.5, "pruned": False}
    for text, score in ((" w6", 0.7), (" w8", -0.2))
]
WHOLE = [{**one, "generated_text": f"w3{one['generated_text']}"} for one in GROUP]
CHAT = [{"role": "user", "content": "w3"}]
ROWS = {
    "candidates": record_candidates(CHAT, [{**one, "stop_reason": "beta"} for one in GROUP], lambda *_: True, True),
    "preference": preference_rows("w3", WHOLE),
    "sft": sft_rows("w3", WHOLE),
    "guided": [{"prompt": "w3", "alphas": [0.0, 1.0], "completions": [" w4", " w5"], "kl": [0.0, 0.3]}],
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_uploaded_with_a_card_and_read_back(kind, hub, tmp_path):  # noqa: F811
    push_rows(ROWS[kind], "me/rows", settings={"seed": 0, "prompt": "a|b"}, private=True)
    assert hub.files("me/rows") == ["README.md", "train.parquet"]
    assert {call[0]: call[2]["repo_type"] for call in hub.calls} == {
        "create_repo": "dataset",
        "create_commit": "dataset",
    }
    card = DatasetCard.load("me/rows/README.md")
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "train.parquet"}]
    assert all(f"| `{name}` | {COLUMNS[name]} |" in card.text for name in ROWS[kind][0])
    assert "| prompt | a\\|b |" in card.text and 'load_dataset("me/rows"' in snippet_of("me/rows").replace("'", '"')
    read = load_dataset("me/rows", split="train", cache_dir=str(tmp_path / "cache"))
    assert [{name: value for name, value in row.items()} for row in read] == ROWS[kind]


def test_columns_of_judgments_and_of_the_page_are_explained():
    assert {field.name for field in fields(Judgment)} <= set(COLUMNS)
    page = (Path(__file__).parents[2] / "docs" / "rows.md").read_text()
    assert all(f"| `{name}` | {what} |" in page for name, what in COLUMNS.items())


def test_a_dataset_is_saved_and_no_rows_are_refused(tmp_path):
    save_rows(tmp_path / "mine", Dataset.from_list([{"prompt": "w3", "mine": 1}]), title="Rows *of* mine")
    text = (tmp_path / "mine" / "README.md").read_text()
    assert "# Rows \\*of\\* mine" in text and "| `mine` | column of the data |" in text
    with pytest.raises(ValueError, match="`rows` must have a row to save, got none"):
        save_rows(tmp_path / "none", [])
