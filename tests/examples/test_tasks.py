"""The checkers of the example tasks, by hand."""

import gzip
import json
from decimal import Decimal

import pytest

from examples.tasks import constraints, gsm8k, preference
from examples.tasks.constraints import Problem

CASES = [
    (Problem("cats", max_words=4), "Cats like warm milk.", True),
    (Problem("cats", max_words=4), "Cats like very warm milk.", False),
    (Problem("cats", max_words=9), "Cats purr. Cats sleep.", False),
    (Problem("cats", max_words=9), "Cats purr\nCats sleep", False),
    (Problem("cats", max_words=3), "It's a well-known cat!", False),
    (Problem("cats", max_words=4), 'It\'s a "well-known" cat!', True),
    (Problem("cats", required="quiet"), "A Quiet cat sleeps.", True),
    (Problem("cats", required="quiet"), "A quietly purring cat sleeps.", False),
    (Problem("cats", forbidden="the"), "Their theme is cats.", True),
    (Problem("cats", forbidden="the"), "The cat sleeps.", False),
    (Problem("cats", num_sentences=2), "Cats purr! Do dogs?", True),
    (Problem("cats", num_sentences=2), 'She said "no." They left.', True),
    (Problem("cats", num_sentences=2), "Cats purr, dogs bark.", False),
    (Problem("cats"), "", False),
]


@pytest.mark.parametrize("problem, text, is_right", CASES)
def test_constraints(problem, text, is_right):
    assert constraints.is_right(problem, text) == is_right
    assert constraints.explain(problem, text).count(": no.") == (0 if is_right else 1)


def test_an_explanation_counts_up_to_the_first_word_too_many():
    text = constraints.explain(Problem("cats", max_words=2), "Cats like milk very much.")
    assert text == "1 of 1 sentences: yes. at most 2 words: 1 Cats 2 like 3 milk: no."


def test_splits_share_no_topic_and_problems_are_different():
    topics = [{problem.topic for problem in constraints.problems(split, 60)} for split in ("train", "test")]
    assert not topics[0] & topics[1]
    assert len(set(constraints.problems("train", 728))) == 728
    with pytest.raises(ValueError, match="at most 728 for 'train', got 729"):
        constraints.problems("train", 729)


@pytest.mark.parametrize(
    "text, answer",
    [
        ("so 3+4=7\n#### 1,200", 1200),
        (r"thus \boxed{-3.50}", Decimal("-3.5")),
        ("It is 12. No, 13.", 13),
        ("none", None),
    ],
)
def test_answers_of_word_problems(text, answer):
    assert gsm8k.extract_answer(text) == answer


def test_word_problems_are_read(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"question": "2+2?", "answer": "2+2=4\n#### 4"}).encode()))
    problem = gsm8k.read_problems(path)[0]
    assert gsm8k.is_right(problem, "#### 4.0") and not gsm8k.is_right(problem, "#### 5")
    (tmp_path / "bad.jsonl").write_text(json.dumps({"question": "?", "answer": "many"}))
    with pytest.raises(ValueError, match="Line 1 of .*bad.jsonl' must have an answer with a number"):
        gsm8k.read_problems(tmp_path / "bad.jsonl")


def test_dialogues_become_pairs(tmp_path):
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"
    rows = [
        {"chosen": f"{start} Because.", "rejected": f"{start} No."},
        {"chosen": f"{start} Because.", "rejected": f"{start} Because."},
        {"chosen": f"{start} Because.", "rejected": f"{start}"},
        {"chosen": f"{start} Because.", "rejected": "\n\nHuman: Ho\n\nAssistant: No."},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    pairs = preference.read_pairs(path)
    assert len(pairs) == 1
    assert [message["role"] for message in pairs[0]["prompt"]] == ["user", "assistant", "user"]
    assert pairs[0]["rejected"] == [{"role": "assistant", "content": "No."}]
    with pytest.raises(ValueError, match="must begin with a turn"):
        preference.read_dialogue("Hello")
