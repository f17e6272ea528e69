import logging

import pytest
from datasets import Dataset
from tiny import tiny_tokenizer

from hf_reward_ext.base.preference.pairs import (
    prepare_preference_dataset,
    tokenize_completion,
    tokenize_preference,
    tokenize_prompt,
)

EOS = 2
# ids: user 4, assistant 5, ":" 7, w0 8, w1 9, ...


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def test_prompts(tokenizer):
    assert tokenize_prompt("w1 w2", tokenizer) == [9, 10]
    assert tokenize_prompt([user("w1")], tokenizer) == [4, 7, 9, 5, 7]


def test_text_completion_ends_with_eos_once(tokenizer):
    assert tokenize_completion("w1 w2", " w3 ", tokenizer) == ([9, 10], [11, EOS])
    assert tokenize_completion("w1 w2", " w3 <eos>", tokenizer) == ([9, 10], [11, EOS])


def test_chat_completion_ends_at_its_eos(tokenizer):
    assert tokenize_completion([user("w1")], [assistant("w3")], tokenizer) == ([4, 7, 9, 5, 7], [11, EOS])
    tokenizer.chat_template += "{{ ' w0' }}"  # what some templates write after the turn is never generated
    ids = tokenize_completion([user("w1")], [assistant("w3")], tokenizer)
    assert ids[1] == [11, EOS]


def test_the_last_assistant_turn_is_the_completion(tokenizer):
    chat = [user("w1"), assistant("w2"), user("w3")]
    prompt_ids, completion_ids = tokenize_completion(chat, [assistant("w4")], tokenizer)
    assert completion_ids == [12, EOS]
    assert prompt_ids == tokenize_prompt(chat, tokenizer)


@pytest.mark.parametrize(
    "example",
    [
        {"prompt": "w1 w2", "chosen": " w3", "rejected": " w4 w5"},
        {"chosen": "w1 w2 w3", "rejected": "w1 w2 w4 w5"},
    ],
    ids=["explicit", "implicit"],
)
def test_text_pairs(tokenizer, example):
    row = tokenize_preference({k: v + (" " if k != "prompt" else "") for k, v in example.items()}, tokenizer)
    assert row == {"prompt_ids": [9, 10], "chosen_ids": [11, EOS], "rejected_ids": [12, 13, EOS]}


def test_a_shared_beginning_belongs_to_the_completions(tokenizer):
    row = tokenize_preference({"prompt": "w1", "chosen": " w2 w3 ", "rejected": " w2 w4 "}, tokenizer)
    assert row == {"prompt_ids": [9], "chosen_ids": [10, 11, EOS], "rejected_ids": [10, 12, EOS]}


CHAT = {
    "prompt": [user("w1"), assistant("w2"), user("w3")],
    "chosen": [assistant("w4")],
    "rejected": [assistant("w5 w6")],
}
# user : w1 assistant : w2 <eos> user : w3 assistant : | w4 <eos>
PROMPT_IDS = [4, 7, 9, 5, 7, 10, EOS, 4, 7, 11, 5, 7]


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(("turns", "prompt_mask"), [("last", [0] * 12), ("all", [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0])])
def test_chat_pairs(tokenizer, implicit, turns, prompt_mask):
    example = CHAT
    if implicit:
        example = {side: CHAT["prompt"] + CHAT[side] for side in ("chosen", "rejected")}
    row = tokenize_preference(example, tokenizer, turns=turns)
    assert row == {
        "prompt_ids": PROMPT_IDS,
        "chosen_ids": [12, EOS],
        "rejected_ids": [13, 14, EOS],
        "chosen_mask": prompt_mask + [1, 1],
        "rejected_mask": prompt_mask + [1, 1, 1],
    }


def test_pairs_that_part_before_the_last_turn(tokenizer):
    example = {
        "chosen": [user("w1"), assistant("w2"), user("w3"), assistant("w4")],
        "rejected": [user("w1"), assistant("w5"), user("w3"), assistant("w4")],
    }
    row = tokenize_preference(example, tokenizer)
    assert row["prompt_ids"] == [4, 7, 9, 5, 7]
    assert row["chosen_ids"] == [10, EOS, 4, 7, 11, 5, 7, 12, EOS]
    assert row["chosen_mask"] == [0] * 12 + [1, 1]


def test_tools_as_json_and_template_options(tokenizer):
    tokenizer.chat_template = "{% if tools %}w0 {% endif %}{% if deep %}w7 {% endif %}" + tokenizer.chat_template
    row = tokenize_preference({**CHAT, "tools": '[{"name": "f"}]', "chat_template_kwargs": {"deep": True}}, tokenizer)
    assert row["prompt_ids"][:2] == [8, 15]


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_are_filtered_by_tokens_and_prepared_once(tokenizer, streaming, caplog):
    rows = [
        {"prompt": "w1", "chosen": " w2 ", "rejected": " w3 ", "margin": 0.5},
        {"prompt": "w1", "chosen": " w2 w2 w2 w2 ", "rejected": " w3 ", "margin": 0.1},
    ]
    dataset = Dataset.from_list(rows)
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    with caplog.at_level(logging.INFO):
        prepared = prepare_preference_dataset(dataset, tokenizer, max_length=4)
    [row] = list(prepared)
    assert row["chosen_ids"] == [10, EOS] and row["margin"] == 0.5
    assert list(prepare_preference_dataset(prepared, tokenizer, max_length=4)) == [row]
    if not streaming:
        assert "1 of 2 train pairs have more than 4 tokens" in caplog.text


def test_refusals(tokenizer):
    with pytest.raises(ValueError, match=r"columns \['text'\]"):
        prepare_preference_dataset(Dataset.from_list([{"text": "w1"}]), tokenizer)
    with pytest.raises(ValueError, match="All 1 pairs.*max_length=2"):
        prepare_preference_dataset(
            Dataset.from_list([{"prompt": "w1 w2", "chosen": " w3", "rejected": " w4"}]), tokenizer, max_length=2
        )
    with pytest.raises(ValueError, match="An empty prompt"):
        tokenize_completion("", "w1", tokenizer)
    with pytest.raises(ValueError, match="An empty completion"):
        tokenize_completion("w1", "", tokenizer)
    with pytest.raises(ValueError, match=r"roles \['user', 'user'\]"):
        tokenize_completion([user("w1")], [user("w2")], tokenizer)
    with pytest.raises(ValueError, match="'last' or 'all'"):
        tokenize_preference(CHAT, tokenizer, turns="first")
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        tokenize_completion("w1", " w2", tokenizer)
