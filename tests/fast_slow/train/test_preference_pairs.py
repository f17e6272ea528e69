import logging

import pytest
from datasets import Dataset
from tiny_judges import POINTWISE, VERDICTS, pair_prompt, point_prompt, scale_prompt

from hf_reward_ext.fast_slow.train.data_collator import JudgeCollator
from hf_reward_ext.fast_slow.train.preference_pairs import encode_pair, prepare_pairs

PAIR = {"prompt": "w4 w5", "chosen": "w12 w13", "rejected": "w14"}
WRITTEN = {"about": "rejected", "first_verdict": "w10", "text": " w20 w21", "verdict": "w11"}


def test_pairs_are_shown_in_both_orders_and_single_responses_one_by_one():
    prompt = pair_prompt()
    row = encode_pair(PAIR, prompt)
    assert row["chosen_prompt_ids"] == prompt.encode("w4 w5", "w12 w13", "w14")
    assert row["rejected_prompt_ids"] == prompt.encode("w4 w5", "w14", "w12 w13")
    assert (row["chosen_target"], row["rejected_target"]) == (0, 1)
    single = point_prompt()
    row = encode_pair(PAIR, single)
    assert row["chosen_prompt_ids"] == single.encode("w4 w5", "w12 w13")
    assert row["rejected_prompt_ids"] == single.encode("w4 w5", "w14")


def test_a_judgment_is_first_verdict_prefix_text_marker_final_verdict_and_eos():
    prompt = pair_prompt()
    row = encode_pair({**PAIR, "judgments": [WRITTEN]}, prompt)
    tokens = prompt.tokenizer.convert_ids_to_tokens(row["rejected_judgments"][0])
    assert tokens == ["w10", "w2", "w20", "w21", "w3", "w11", "<eos>"]
    assert row["chosen_judgments"] == []


def test_the_prompt_may_be_the_shared_beginning_and_chats_are_read():
    chat = {
        "chosen": [{"role": "user", "content": "w4 w5"}, {"role": "assistant", "content": "w12 w13"}],
        "rejected": [{"role": "user", "content": "w4 w5"}, {"role": "assistant", "content": "w14"}],
    }
    assert encode_pair(chat, pair_prompt()) == encode_pair(PAIR, pair_prompt())


def test_a_scale_learns_the_verdicts_that_are_given():
    prompt = scale_prompt()
    assert encode_pair(PAIR, prompt)["chosen_target"] == -1
    row = encode_pair({**PAIR, "chosen_verdict": "w12", "rejected_verdict": "w10"}, prompt)
    assert (row["chosen_target"], row["rejected_target"]) == (2, 0)


def test_wrong_judgments_and_verdicts_are_refused():
    with pytest.raises(ValueError, match="about the 'rejected' response ends with the verdict 'w10'"):
        encode_pair({**PAIR, "judgments": [{**WRITTEN, "verdict": "w10"}]}, pair_prompt())
    with pytest.raises(ValueError, match=r"A verdict must be one of \('w10', 'w11'\), got 'w9'"):
        encode_pair({**PAIR, "judgments": [{**WRITTEN, "first_verdict": "w9"}]}, pair_prompt())
    with pytest.raises(ValueError, match="a judge learns from pairs with 'chosen' and 'rejected'"):
        prepare_pairs(Dataset.from_list([{"prompt": "w4"}]), pair_prompt())


def test_what_is_too_long_is_left_out_by_tokens_and_counted(caplog):
    prompt = pair_prompt()
    long = {**PAIR, "prompt": "w4 " * 30}
    wordy = {**WRITTEN, "text": " w20" * 30}
    rows = Dataset.from_list([{**PAIR, "judgments": [WRITTEN, wordy]}, {**long, "judgments": []}])
    with caplog.at_level(logging.INFO):
        kept = prepare_pairs(rows, prompt, max_length=30)
    assert len(kept) == 1 and len(kept[0]["rejected_judgments"]) == 1
    assert "train: 1 pairs and 1 judgments of others are too long." in caplog.text
    with pytest.raises(ValueError, match="All 2 pairs of the train data"):
        prepare_pairs(rows, prompt, max_length=5)


def test_rows_of_a_batch_end_their_prompts_in_one_column():
    prompt = pair_prompt()
    other = {"prompt": "w4 w5 w6 w7", "chosen": "w8", "rejected": "w9", "judgments": [], "margin": 0.5}
    both = {**PAIR, "judgments": [WRITTEN, {**WRITTEN, "text": " w22"}], "margin": 1.0}
    rows = [{**encode_pair(one, prompt), "margin": one["margin"]} for one in (both, other)]
    batch = JudgeCollator(0, num_given=2)(rows)
    width = batch["input_ids"].shape[1] - batch["continuation_ids"].shape[1]
    # Both sides of either pair, and a second row for the second judgment.
    assert batch["input_ids"].shape[0] == 5
    assert batch["chosen_rows"].tolist() == [0, 3] and batch["rejected_rows"].tolist() == [1, 4]
    for number, side in ((0, "chosen"), (1, "rejected"), (2, "rejected")):
        ids = batch["input_ids"][number, :width][batch["attention_mask"][number, :width].bool()]
        assert ids.tolist() == rows[0][f"{side}_prompt_ids"]
        assert batch["attention_mask"][number, width - 1] == 1
    learned = batch["continuation_ids"][1][batch["continuation_mask"][1]]
    assert prompt.tokenizer.convert_ids_to_tokens(learned.tolist()) == ["w20", "w21", "w3", "w11", "<eos>"]
    assert batch["continuation_mask"].any(-1).tolist() == [False, True, True, False, False]
    assert batch["margin"].tolist() == [1.0, 0.5]
    assert POINTWISE.to_dict() and VERDICTS  # the fixtures the prompts above are made of
