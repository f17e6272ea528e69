import pytest
from datasets import Dataset
from tiny import CHAT_TEMPLATE, tiny_causal_lm, tiny_tokenizer
from tokenizers import processors
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForSequenceClassification

from hf_reward_ext import GenARMRewardModel, TextScorer
from hf_reward_ext.base.scoring.completion import CompletionScorer
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
        {"input_ids": [[*ids, 9]], "completion_mask": [[0, 0, 1]]},  # SFT before TRL 1.16
        {"input_ids": [[*ids, 9, 10]], "labels": [[-100, -100, 9, 10]]},  # SFT
        {"input_ids": [[*ids, 9, 4, 10]], "labels": [[-100, -100, 9, -100, 10]]},  # SFT on the assistant's turns
        {"prompt": ["w3 w4"]},  # GRPO
    ):
        (prompt,) = evaluation_prompts(DataLoader(Dataset.from_dict(rows)), TOKENIZER)
        assert (prompt.shown, prompt.ids) == ("w3 w4", ids)


def test_what_has_no_prompts_is_refused():
    with pytest.raises(ValueError, match="prompts are empty"):
        given_prompts([], TOKENIZER)
    with pytest.raises(ValueError, match=r"columns \['chosen_ids'\]"):
        evaluation_prompts(DataLoader(Dataset.from_dict({"chosen_ids": [[1]]})), TOKENIZER)
    with pytest.raises(ValueError, match="without `eval_dataset`"):
        evaluation_prompts(None, TOKENIZER)
    for labels in ([3, 4], [-100, -100]):
        with pytest.raises(ValueError, match="Row 0 of the prompt data: `labels` must leave out a prompt"):
            evaluation_prompts(DataLoader(Dataset.from_dict({"input_ids": [[3, 4]], "labels": [labels]})), TOKENIZER)


CHAT = [{"role": "user", "content": "w3 w4"}]
WITH_BOS = "{{ bos_token }} " + CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("prompt", "writes_bos", "template"),
    [("w3 w4", writes_bos, template) for writes_bos in (False, True) for template in (None, CHAT_TEMPLATE, WITH_BOS)]
    # Templates write BOS themselves, above all those of tokenizers that write it too.
    + [(CHAT, False, CHAT_TEMPLATE), (CHAT, False, WITH_BOS), (CHAT, True, WITH_BOS)],
)
def test_prompts_that_come_as_ids_are_read_as_those_that_were_given(prompt, writes_bos, template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    if writes_bos:
        post = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
        tokenizer.backend_tokenizer.post_processor = post
    (given,) = given_prompts([prompt], tokenizer)
    (read,) = evaluation_prompts(DataLoader(Dataset.from_dict({"prompt_ids": [given.ids]})), tokenizer)
    assert read.ids == given.ids and given.ids.count(1) <= 1
    if isinstance(prompt, str):
        assert read.shown == prompt
    # Reward models read the same prompt, with as many BOS.
    model = GenARMRewardModel.from_causal_lm(tiny_causal_lm())
    ids, start = CompletionScorer(model, tokenizer).encode(read.shown, " w5")
    assert ids[:start] == given.ids
    settings = dict(vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, num_labels=1)
    classifier = LlamaForSequenceClassification(LlamaConfig(**settings))
    ids, expected = (TextScorer(classifier, tokenizer).encode(one.shown, " w5").ids for one in (read, given))
    if isinstance(prompt, str):
        assert ids == expected
    else:  # a chat as text lacks the end of the turn alone
        assert ids == expected[: len(ids)]
