"""Spans of assistant turns in every chat template that TRL ships, rendered with one token per character."""

import re
from pathlib import Path

import pytest
import trl
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_reward_ext.base.preference.chat import encode_chat
from hf_reward_ext.base.preference.pairs import tokenize_preference, tokenize_prompt

TEMPLATES = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
ENDS = [
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>",
    "<|return|>", "<|end|>", "<end_of_utterance>", "<|eot|>", "</s>",
]  # fmt: skip


def characters(template: str, eos: str | None = None) -> PreTrainedTokenizerFast:
    """Every character is a token, and so is everything in angle brackets that the template writes."""
    special = sorted({*re.findall(r"<[|｜]?/?[A-Za-z_▁:]+[|｜]?>", template), "<s>", "</s>"})
    names = ["<pad>", "<unk>", *special, "<eos>", *map(chr, range(32, 127)), "\n"]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", bos_token="<s>",
        eos_token=eos or next((end for end in ENDS if end in template), "<eos>"), additional_special_tokens=special,
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **fields):
    return {"role": "assistant", "content": text, **fields}


def call(argument):
    return [{"type": "function", "function": {"name": "find", "arguments": {"q": argument}}}]


LATER = [user("Go on"), assistant("GOOD")]
CHATS = {
    "two turns": ([user("Hi"), assistant("FIRST"), *LATER], ["FIRST", "GOOD"]),
    "three turns": ([user("Hi"), assistant("FIRST"), user("And"), assistant("SECOND"), *LATER],
                    ["FIRST", "SECOND", "GOOD"]),
    "thinking in the text": (
        [user("Hi"), assistant("<think>\nhm\n</think>\n\nFIRST"), user("Go on"),
         assistant("<think>\nyes\n</think>\n\nGOOD")], ["FIRST", "GOOD"]),
    "thinking beside it": (
        [user("Hi"), assistant("FIRST", reasoning_content="hm"), user("Go on"),
         assistant("GOOD", reasoning_content="yes")], ["FIRST", "GOOD"]),
    "ends like the sentinel": ([user("0"), assistant("10"), user("0"), assistant("0")], ["10", "0"]),
    "tool calls": (
        [user("Hi"), assistant("", tool_calls=call("Q1")), {"role": "tool", "name": "find", "content": "RESULT"},
         assistant("FIRST"), *LATER], ["Q1", "FIRST", "GOOD"]),
    "tool calls with thinking": (
        [user("Hi"), assistant("", tool_calls=call("Q1"), reasoning_content="hm"),
         {"role": "tool", "name": "find", "content": "RESULT"}, assistant("FIRST", reasoning_content="hmm"), *LATER],
        ["Q1", "FIRST", "GOOD"]),
}  # fmt: skip
NO_TOOLS = ("cohere", "deepseek", "gemma", "gemma3", "idefics3", "lfm2", "llama3", "llava", "phi3", "qwen2_5_vl",
            "smolvlm")  # fmt: skip


def counted(chat, tokenizer) -> list[str]:
    ids, spans = encode_chat(chat, tokenizer, "all")
    assert spans == sorted(spans) and spans[-1][1] == len(ids)
    return ["".join(tokenizer.convert_ids_to_tokens(ids[start:end])) for start, end in spans]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", CHATS)
def test_every_turn_counts_from_its_header_to_its_end(path, name):
    chat, texts = CHATS[name]
    tokenizer = characters(path.read_text())
    try:
        spans = counted(chat, tokenizer)
    except ValueError as error:
        assert name.startswith("tool") and path.stem.startswith(NO_TOOLS), error
        assert re.search("The chat template (refuses a chat of|writes nothing of the tool)", str(error))
        return
    assert len(spans) == len(texts)
    for span, text in zip(spans, texts, strict=True):
        assert span.count(text) == 1
        others = {"Hi", "And", "Go on", "RESULT", *texts} - {text, "0", "10"}
        assert not any(other in span for other in others)
    if tokenizer.eos_token != "<eos>" and not name.startswith("tool"):
        ends = (tokenizer.eos_token, "<|end|>")  # gpt-oss ends earlier turns otherwise
        assert all(span.endswith(ends) for span in spans)


def test_there_are_templates():
    assert len(TEMPLATES) > 40


@pytest.mark.parametrize("eos", ["<|im_end|>", "<s>"], ids=["end of turn is EOS", "turns end without EOS"])
@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "qwen3_5_think", "qwen3_6", "qwen3_training", "nemotron_3_nano"])
def test_earlier_turns_count_with_any_eos(name, eos):
    template = next(path for path in TEMPLATES if path.stem == name).read_text()
    spans = counted(CHATS["three turns"][0], characters(template, eos))
    assert spans[0].startswith(("FIRST<|im_end|>", "<think>", "</think>", "\n</think>"))
    for span, text in zip(spans, CHATS["three turns"][1], strict=True):
        assert span.rstrip("\n").endswith(f"{text}<|im_end|>")


def test_a_turn_that_is_not_written_is_refused():
    tokenizer = characters("{% for m in messages %}{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}"
                           "{% endfor %}")  # fmt: skip
    with pytest.raises(ValueError, match=r"writes nothing for message 1 \(assistant\).*turns='last'"):
        encode_chat(CHATS["two turns"][0], tokenizer, "all")
    assert len(encode_chat(CHATS["two turns"][0], tokenizer, "last")[1]) == 1


def test_a_template_that_wants_parts_gets_them():
    template = next(path for path in TEMPLATES if path.stem == "smolvlm").read_text()
    tokenizer = characters(template)
    row = {"prompt": [user("Hi")], "chosen": "YES", "rejected": "no"}
    pair = tokenize_preference(row, tokenizer)
    assert "YES" in "".join(tokenizer.convert_ids_to_tokens(pair["chosen_ids"]))
    assert "Hi" in "".join(tokenizer.convert_ids_to_tokens(tokenize_prompt(row["prompt"], tokenizer)))


def test_what_a_template_raises_becomes_one_sentence():
    tokenizer = characters("{{ raise_exception('no system here') }}")
    with pytest.raises(ValueError, match=r"refuses a chat of the roles \['user', 'assistant'\]: no system here"):
        encode_chat([user("Hi"), assistant("GOOD")], tokenizer, "last")
    tokenizer = characters("{{ messages[0].content + messages[1].content }}")
    with pytest.raises(ValueError, match="refuses a chat of the roles"):
        encode_chat([user("Hi"), {"role": "assistant", "content": None, "tool_calls": call("x")}], tokenizer, "last")
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="this `TokenizersBackend` has none.*chat_template_path"):
        encode_chat([user("Hi"), assistant("GOOD")], tokenizer, "last")
