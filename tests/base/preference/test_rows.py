import json
import logging

import pytest
from datasets import Dataset, DatasetDict, IterableDataset
from malformed_rows import BAD, CALL, CHAT, TEXT, assistant, good_row, user
from tiny import tiny_tokenizer

from hf_reward_ext.base.preference.datasets import plain_dataset
from hf_reward_ext.base.preference.pairs import prepare_preference_dataset
from hf_reward_ext.base.preference.rows import check_pairs, read_pair, read_pair_ids


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_row_is_named_with_its_column(name):
    row, message = BAD[name]
    good = good_row(row)
    with pytest.raises(ValueError, match=f"Row 2 of the eval data: .*{message}"):
        check_pairs([good, good, row, good], "eval")


ULTRA_FEEDBACK = {"prompt": "w1", "chosen": [user("w1"), assistant("w3")], "rejected": [user("w1"), assistant("w4")]}
WHOLE = {**ULTRA_FEEDBACK, "prompt": [user("w1")]}
FORMS = {
    "sides follow": CHAT,
    "sides are texts": {"prompt": [user("w1")], "chosen": "w3", "rejected": "w4"},
    "no prompt": {side: WHOLE[side] for side in ("chosen", "rejected")},
    "UltraFeedback": ULTRA_FEEDBACK,
    "sides are whole chats": WHOLE,
    "text parts": {**CHAT, "prompt": [user([{"type": "text", "text": "w"}, {"type": "text", "text": "1"}])]},
    "keys that Arrow fills": {**CHAT, "prompt": [{**user("w1"), "tool_calls": None, "name": None}]},
}


@pytest.mark.parametrize("name", FORMS)
def test_chats_of_every_form_are_one_pair(name):
    assert read_pair(FORMS[name]) == (CHAT["prompt"], CHAT["chosen"], CHAT["rejected"], {})


def test_a_system_message_may_come_before_the_prompt_of_a_text_column():
    system = {"role": "system", "content": "w0"}
    row = {side: [system, *ULTRA_FEEDBACK[side]] for side in ("chosen", "rejected")}
    assert read_pair({"prompt": "w1", **row}).prompt == [system, user("w1")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("2+2=4", "2+2=5", "2+2="),
        ("say yes", "say no", "say"),
        ("a b", "a b c", "a"),
        ("the same", "the same", "the"),
        ("7*17=119", "7*17=117", "7*17="),
        ("say I am", "say It is", "say"),
        ("天气好", "天气坏", "天气"),
    ],
)
def test_texts_without_a_prompt_share_their_beginning(chosen, rejected, prompt):
    pair = read_pair({"chosen": chosen, "rejected": rejected})
    assert pair.prompt == prompt and pair.prompt + pair.chosen == chosen and pair.prompt + pair.rejected == rejected


def test_tools_and_calls_as_json_text_or_objects():

    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": None}}}}
    ]
    rows = [
        {**CHAT, "chosen": [assistant(None, tool_calls=calls)], "tools": given, "chat_template_kwargs": kwargs}
        for calls, given, kwargs in ((CALL, tools, {"deep": True, "other": None}),
                                     (json.dumps(CALL), json.dumps(tools), '{"deep": true}'))
    ]  # fmt: skip
    pairs = [read_pair(row) for row in rows]
    assert pairs[0] == pairs[1]
    assert pairs[0].chosen == [{"role": "assistant", "content": None, "tool_calls": CALL}]
    assert pairs[0].template_kwargs["deep"] is True and "other" not in pairs[0].template_kwargs
    assert pairs[0].template_kwargs["tools"][0]["function"]["parameters"]["properties"] == {}


def test_ids_with_and_without_prompt():
    assert read_pair_ids({"chosen_input_ids": [1, 2], "rejected_input_ids": [1, 3]}) == (
        None,
        [1, 2],
        [1, 3],
        None,
        None,
    )
    assert read_pair_ids({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "chosen_mask": [0, 1]}) == (
        [1], [2], [3], [0, 1], None
    )  # fmt: skip


def test_equal_sides_and_repeated_rows_are_counted(caplog):
    same = {**TEXT, "rejected": TEXT["chosen"]}
    with caplog.at_level(logging.INFO):
        check_pairs([TEXT, same, TEXT, same], "train")
    assert "2 of 4 train pairs have equal sides" in caplog.text
    assert "2 of 4 train rows repeat an earlier one" in caplog.text
    with pytest.raises(ValueError, match="must differ, but they are equal in all 2 rows of the train data"):
        check_pairs([same, same], "train")
    with pytest.raises(ValueError, match="Row 1 of the train data: `margin` must be a number in all rows or in none"):
        check_pairs([{**TEXT, "margin": 1.0}, {**TEXT, "margin": None}], "train")
    with pytest.raises(ValueError, match="The train data has no rows"):
        check_pairs([], "train")


def test_what_is_no_dataset_is_refused():
    with pytest.raises(TypeError, match=r"got the splits \['train', 'test'\]. Pass one of them.*`data\['train'\]`"):
        plain_dataset(DatasetDict(train=Dataset.from_list([TEXT]), test=Dataset.from_list([TEXT])), "train")
    with pytest.raises(TypeError, match="got a `list`.*Dataset.from_list"):
        plain_dataset([TEXT], "train")
    with pytest.raises(ValueError, match="got None. Pass `train_dataset`"):
        plain_dataset(None, "train")
    for empty in (Dataset.from_list([]), Dataset.from_list([TEXT]).select([]), IterableDataset.from_generator(list)):
        with pytest.raises(ValueError, match="The train data has no rows"):
            plain_dataset(empty, "train")


def loud(batch):
    return {**batch, "chosen": [text + " w9" for text in batch["chosen"]]}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["torch", "numpy", None, "transform"])
def test_formatted_datasets_give_the_same_ids(form, streaming):
    rows = Dataset.from_list([TEXT, {**TEXT, "prompt": "w5"}])
    if form == "transform":
        plain, data = rows.map(loud, batched=True), rows.with_transform(loud)
    else:
        plain, data = rows, rows.with_format(form)
    if streaming and form != "transform":
        data = rows.to_iterable_dataset().with_format(form)
    expected = list(prepare_preference_dataset(plain, tiny_tokenizer()))
    assert list(prepare_preference_dataset(data, tiny_tokenizer())) == expected


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["torch", None])
def test_tokenized_datasets_of_every_form(form, streaming):
    expected = {"prompt_ids": [9, 10], "chosen_ids": [11, 2], "rejected_ids": [12, 2]}
    joined = {f"{side}_ids": expected["prompt_ids"] + expected[f"{side}_ids"] for side in ("chosen", "rejected")}
    for row in (
        expected, {"prompt": "w1 w2", **joined}, joined,
        {column.replace("_ids", "_input_ids"): ids for column, ids in joined.items()},
    ):  # fmt: skip
        data = Dataset.from_list([row])
        data = (data.to_iterable_dataset() if streaming else data).with_format(form)
        [ready] = list(prepare_preference_dataset(data, tiny_tokenizer()))
        assert {column: ready[column] for column in expected} == expected


def test_ids_that_do_not_fit_are_refused():
    tokenizer = tiny_tokenizer()
    for row, message in (
        ({"chosen_ids": [3, 4], "rejected_ids": [5, 4]}, "must begin with the prompt's tokens"),
        ({"prompt": "w1 w2", "chosen_ids": [11, 2], "rejected_ids": [11, 5, 2]}, "must begin with the prompt's tokens"),
        ({"prompt_ids": [3], "chosen_ids": [99], "rejected_ids": [4]}, "`chosen_ids` must hold ids of .* 32"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"Row 0 of the train data: .*{message}"):
            prepare_preference_dataset(Dataset.from_list([row]), tokenizer)


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_row_that_only_the_template_refuses_is_named(num_proc):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% if messages[0].content == 'w9' %}{{ raise_exception('not w9') }}{% endif %}" + (
        tokenizer.chat_template
    )
    rows = [CHAT, CHAT, {**CHAT, "prompt": [user("w9")]}]
    with pytest.raises(ValueError, match="Row 2 of the train data: The chat template refuses.*not w9"):
        prepare_preference_dataset(Dataset.from_list(rows), tokenizer, num_proc=num_proc)
