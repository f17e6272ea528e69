import pytest
import torch
from tiny import tiny_tokenizer
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.judge.verdicts import verdict_kind, verdict_values


def word_tokenizer(words, chat_template=None):
    """Words, spaces and punctuation marks are tokens of their own."""
    vocabulary = ["<unk>", "<eos>", *list(" \n.:[]<>/|?,\"'"), *words]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\W"), behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>")
    tokenizer.chat_template = chat_template
    return tokenizer


TINY = JudgeTemplate(
    user="{prompt} w0 {response_a} w1 {response_b}", base_suffix="", analysis_prefix=" w2", final_marker=" w3"
)


def test_kinds_and_values():
    assert verdict_kind(("A", "B")) == "pairwise"
    assert verdict_kind(("yes", "no")) == "binary"
    assert verdict_kind(("1", "2", "3", "4", "5")) == "rating"
    torch.testing.assert_close(verdict_values(("0", "5", "10"), "rating"), torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(verdict_values(("bad", "fair", "good"), "rating"), torch.tensor([-1.0, 0.0, 1.0]))
    assert verdict_values(("A", "B"), "pairwise") is None
    with pytest.raises(ValueError, match="different strings"):
        verdict_kind(("A", "A"))
    with pytest.raises(ValueError, match="must be numbers, got"):
        verdict_kind(("A", "B", "C"))


def test_a_pair_is_rendered_in_its_order_and_the_verdict_comes_next():
    tokenizer = tiny_tokenizer()
    prompt = JudgePrompt(tokenizer, ("w10", "w11"), TINY)
    text = "user : w5 w0 w6 w1 w7 assistant : "
    assert prompt.render("w5", "w6", "w7") == text
    assert prompt.encode("w5", "w6", "w7") == tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(prompt.first_ids.tolist()) == ["w10", "w11"]
    assert tokenizer.convert_ids_to_tokens(prompt.prefix_ids) == ["w2"]
    assert tokenizer.convert_ids_to_tokens(prompt.encode_judgment("w4 w4", 1)) == ["w4", "w4", "w3", "w11"]


def test_without_a_chat_template_the_question_is_plain_text():
    tokenizer = word_tokenizer(["A", "B", "Verdict", "Final", "Analysis"])
    prompt = JudgePrompt(tokenizer, ("A", "B"))
    assert prompt.render("x", "y", "z").endswith("your first answer.\n\nVerdict:")
    assert tokenizer.convert_ids_to_tokens(prompt.first_ids.tolist()) == ["A", "B"]


def test_verdicts_of_several_tokens_are_refused_and_the_error_names_others():
    tokenizer = word_tokenizer(["A", "B", "first", "second", "Verdict"])
    with pytest.raises(
        ValueError, match=r"must be single and different tokens.*Use one of \[\('A', 'B'\), \('first', 'second'\)\]"
    ):
        JudgePrompt(tokenizer, ("A.", "B."))
    with pytest.raises(ValueError, match="Write verdicts that are single words"):
        JudgePrompt(word_tokenizer(["other"]), ("good one", "bad one"))


def test_a_verdict_may_need_a_space():
    backend = Tokenizer(models.BPE({"x": 0, ":": 1, " ": 2, "A": 3, "B": 4, ":A": 5, ":B": 6, " A": 7, " B": 8},
                                   [(":", "A"), (":", "B"), (" ", "A"), (" ", "B")]))  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    template = JudgeTemplate(user="{prompt}{response_a}{response_b}:", base_suffix="", final_marker="x:")
    prompt = JudgePrompt(tokenizer, ("A", "B"), template)
    assert prompt.first_ids.tolist() == [7, 8] == prompt.final_ids.tolist()


@pytest.mark.parametrize(
    ("generation_prompt", "expected"),
    [
        ("<assistant><think>\n", "<assistant><think>\n\n</think>\n\n"),
        ("<assistant>{% if enable_thinking is false %}<think></think>{% endif %}", "<assistant><think></think>"),
        ("<assistant>", "<assistant>"),
        ("<|start|>assistant", "<|start|>assistant<|channel|>final<|message|>"),
    ],
)
def test_models_that_open_with_a_thinking_tag_answer_first(generation_prompt, expected):
    template = "{{ messages[0]['content'] }}" + generation_prompt
    prompt = JudgePrompt(word_tokenizer(["A", "B"], template), ("A", "B"))
    assert prompt.render("x", "y", "z").endswith("your first answer." + expected)


def test_pointwise_verdicts_are_about_one_response():
    words = ["Yes", "No", "1", "2", "3", "Verdict"]
    binary = JudgePrompt(word_tokenizer(words), ("Yes", "No"))
    assert "Answer with Yes or No at once" in binary.render("x", "y")
    scale = JudgePrompt(word_tokenizer(words), ("1", "2", "3"))
    assert "from 1 (worst) to 3 (best)" in scale.render("x", "y")
    with pytest.raises(ValueError, match="one response, got 2"):
        binary.render("x", "y", "z")
    with pytest.raises(ValueError, match=r"no \{response_a\}"):
        JudgePrompt(word_tokenizer(words), ("Yes", "No"), JudgeTemplate(user="{prompt}"))


def test_braces_in_responses_are_kept():
    prompt = JudgePrompt(tiny_tokenizer(), ("w10", "w11"), TINY)
    assert "{response_b}" in prompt.render("{}", "{response_b}", "w7")
