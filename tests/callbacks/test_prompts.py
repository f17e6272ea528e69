import pytest
from datasets import Dataset
from tiny import tiny_tokenizer
from torch.utils.data import DataLoader

from hf_reward_ext.callbacks.prompts import evaluation_prompts, given_prompts

TOKENIZER = tiny_tokenizer()


def test_text_messages_and_columns():
    chat = [{"role": "user", "content": "w3 w4"}]
    text, messages = given_prompts(["w3 w4", chat], TOKENIZER)
    assert (text.shown, text.columns) == ("w3 w4", {})
    assert text.ids == TOKENIZER("w3 w4")["input_ids"]
    assert TOKENIZER.decode(messages.ids) == "user : w3 w4 assistant :"
    rows = Dataset.from_dict({"prompt": ["w3", "w4"], "answer": [1, 2]})
    assert [prompt.columns for prompt in given_prompts(rows, TOKENIZER)] == [{"answer": 1}, {"answer": 2}]
    assert len(given_prompts(rows.to_iterable_dataset(), TOKENIZER, num_prompts=1)) == 1


def test_evaluation_data_as_the_trainers_prepare_it():
    ids = TOKENIZER("w3 w4")["input_ids"]
    for rows in (
        {"prompt_ids": [ids], "chosen_ids": [[9]], "rejected_ids": [[8]]},  # DPO
        {"input_ids": [[*ids, 9]], "completion_mask": [[0, 0, 1]]},  # SFT
        {"prompt": ["w3 w4"]},  # GRPO
    ):
        (prompt,) = evaluation_prompts(DataLoader(Dataset.from_dict(rows)), TOKENIZER)
        assert (prompt.shown, prompt.ids) == ("w3 w4", ids)


def test_what_has_no_prompts_is_refused():
    with pytest.raises(ValueError, match="prompts are empty"):
        given_prompts([], TOKENIZER)
    with pytest.raises(ValueError, match=r"columns \['chosen_ids'\]"):
        evaluation_prompts(DataLoader(Dataset.from_dict({"chosen_ids": [[1]]})), TOKENIZER)
    with pytest.raises(ValueError, match="no `eval_dataset`"):
        evaluation_prompts(None, TOKENIZER)
