"""Ids and masks of preference pairs, for any chat, text, template and tokenizer."""

import logging
from functools import cache
from itertools import groupby

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_reward_ext.base.preference.chat import common_prefix
from hf_reward_ext.base.preference.pair_collator import PairCollator
from hf_reward_ext.base.preference.pairs import tokenize_completion, tokenize_preference, tokenize_prompt

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<|start|>", "<|system|>", "<|user|>", "<|assistant|>"]
PAD, BOS, EOS = 0, 1, 2

CHATML = (
    "{% for m in messages %}{{ '<|start|>' + m.role + '\\n' + m.content + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)
TEMPLATES = {
    "ChatML": CHATML,
    "default system": (
        "{% if messages[0].role != 'system' %}{{ '<|start|>system\\nbe a' + eos_token + '\\n' }}{% endif %}" + CHATML
    ),
    "BOS and instructions": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ '<<' + m.content + '>>\\n' }}"
        "{% elif m.role == 'user' %}{{ '[a] ' + m.content.strip() + ' [b]' }}"
        "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "stripped": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content | trim + '\\n' }}"
        "{% if m.role == 'assistant' %}{{ eos_token + '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    "words alone": (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    ),
}
MERGES = ["a b", "a a", "_ a", "_ b", ": _", ": _a", "n n", "n a", "n _", "b n", "_ [", "] _", "ab n", "b <", "_a b"]


@cache
def tokenizer_of(space, newline, adds_bos, template=None, merges=True):
    """BPE of characters, whose merges join spaces, line breaks and letters over any boundary."""
    names = {"_": space, "n": newline}
    written = [tuple("".join(names.get(one, one) for one in part) for part in pair.split()) for pair in MERGES]
    characters = [space, newline, *sorted(set("abcdefghijklmopqrstuvwxyzn0123456789:.<>[]|")), "Ġ", "▁", "Ċ", "\n"]
    names = list(dict.fromkeys([*SPECIAL, *characters]))
    pairs = []
    for left, right in written if merges else []:
        if left in names and right in names:
            pairs.append((left, right))
            names.append(left + right)
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate(dict.fromkeys(names))}, pairs, unk_token="<unk>"))
    if space == "▁":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Metaspace(prepend_scheme="never")
    elif space == " ":
        backend.decoder = decoders.Fuse()
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>",
        additional_special_tokens=SPECIAL[4:],
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


KINDS = {
    "bytes": dict(space="Ġ", newline="Ċ", adds_bos=False),
    "bytes, BOS": dict(space="Ġ", newline="Ċ", adds_bos=True),
    "prefix space, BOS": dict(space="▁", newline="\n", adds_bos=True),
    "characters": dict(space=" ", newline="\n", adds_bos=False, merges=False),
}


def written(ids, tokenizer):
    """The text of ids, with the space that some tokenizers write before a text."""
    return "".join(tokenizer.convert_ids_to_tokens(ids)).translate(str.maketrans("Ġ▁Ċ", "  \n"))


PIECES = st.sampled_from(["a", "b", "ab", " ", " a", "\n", "\n\n", "0", ":", "]", "<eos>"])
TEXTS = st.lists(PIECES, max_size=5).map("".join)
ANSWERS = TEXTS.filter(str.strip)


def message(role, content):
    return {"role": role, "content": content}


@st.composite
def chats(draw):
    """A prompt of an optional system message and user's and assistant's turns, the last of which is the user's."""
    system = [message("system", draw(TEXTS))] if draw(st.booleans()) else []
    earlier = draw(st.lists(st.tuples(TEXTS, ANSWERS), max_size=2))
    turns = [one for asked, said in earlier for one in (message("user", asked), message("assistant", said))]
    return [*system, *turns, message("user", draw(TEXTS))]


@pytest.fixture(autouse=True)
def quiet():
    """Without a warning for each ending of a prompt that merges with its completion."""
    logging.getLogger("hf_reward_ext").setLevel(logging.ERROR)
    yield
    logging.getLogger("hf_reward_ext").setLevel(logging.NOTSET)


def runs(mask):
    """Start and end of each run of 1."""
    places = [(bit, [place for place, _ in group]) for bit, group in groupby(enumerate(mask), lambda pair: pair[1])]
    return [(run[0], run[-1] + 1) for bit, run in places if bit]


@pytest.mark.parametrize("template", TEMPLATES)
@given(
    kind=st.sampled_from(sorted(KINDS)), prompt=chats(), sides=st.tuples(ANSWERS, ANSWERS),
    turns=st.sampled_from(["last", "all"]),
)  # fmt: skip
@example("bytes", [message("user", "a")], ("a", "a<eos>b"), "last")
@example("bytes", [message("user", "a"), message("assistant", "a<eos>b"), message("user", "a")], ("a", "b"), "all")
def test_chats(template, kind, prompt, sides, turns):
    tokenizer = tokenizer_of(**KINDS[kind], template=TEMPLATES[template])
    writes_eos = template != "words alone"
    answers = dict(zip(("chosen", "rejected"), sides, strict=True))
    row = {"prompt": prompt, **{side: [message("assistant", text)] for side, text in answers.items()}}
    pair = tokenize_preference(row, tokenizer, turns)
    header = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    header_ids = tokenize_prompt(prompt, tokenizer)
    for side in answers:
        ids, mask = pair["prompt_ids"] + pair[f"{side}_ids"], pair[f"{side}_mask"]
        chat = [*prompt, *row[side]]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(mask) == len(ids) and whole[: len(ids)] == ids and EOS not in whole[len(ids) :]
        assert ids[-1] == EOS if writes_eos else ids == whole
        spans = runs(mask)
        assert len(spans) == (1 if turns == "last" else sum(one["role"] == "assistant" for one in chat))
        start, end = spans[-1]
        assert end == len(ids) and start == common_prefix(header_ids, whole) >= len(pair["prompt_ids"])
        assert text.startswith(header)
        completion = text[len(header) :]
        completion = completion[: completion.rindex("<eos>") + 5] if writes_eos else completion
        counted = written(ids[start:], tokenizer)
        assert counted == completion if start == len(header_ids) else counted.endswith(completion)
        for (first, last), turn in zip(spans[::-1], [one for one in chat[::-1] if one["role"] == "assistant"],
                                       strict=False):  # fmt: skip
            assert turn["content"].strip() in written(ids[first:last], tokenizer)
    shared = len(pair["prompt_ids"])
    assert pair["chosen_mask"][:shared] == pair["rejected_mask"][:shared]
    assert turns == "all" or not any(pair["chosen_mask"][:shared])
    swapped = tokenize_preference({**row, "chosen": row["rejected"], "rejected": row["chosen"]}, tokenizer, turns)
    assert {key: swapped[key] for key in ("prompt_ids", "chosen_ids", "chosen_mask")} == {
        "prompt_ids": pair["prompt_ids"], "chosen_ids": pair["rejected_ids"], "chosen_mask": pair["rejected_mask"],
    }  # fmt: skip
    joined = {side: [*prompt, *row[side]] for side in answers}
    assert tokenize_preference(joined, tokenizer, turns) == pair
    assert tokenize_preference({"prompt": prompt, **joined}, tokenizer, turns) == pair
    assert tokenize_preference({**row, **answers}, tokenizer, turns) == pair
    assert tokenize_preference(pair, tokenizer, turns) == pair


@pytest.mark.parametrize("kind", KINDS)
@given(prompt=TEXTS.filter(bool), chosen=ANSWERS, rejected=ANSWERS)
@example("a", "ab", "<eos><eos>")
@example("<eos>", "<eos>", "a")
@example("<bos><bos>", "a", "b")
def test_texts(kind, prompt, chosen, rejected):
    tokenizer = tokenizer_of(**KINDS[kind])
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    try:
        pair = tokenize_preference(row, tokenizer)
    except ValueError as error:
        assert "`prompt` must have a token of its own" in str(error) and not KINDS[kind]["adds_bos"]
        return
    alone = tokenize_prompt(prompt, tokenizer)
    for side in ("chosen", "rejected"):
        ids = pair["prompt_ids"] + pair[f"{side}_ids"]
        text = prompt + row[side]
        ended = text if row[side].endswith("<eos>") else text + "<eos>"
        adds_bos = KINDS[kind]["adds_bos"] and not text.startswith("<bos>")
        own = tokenizer(ended, add_special_tokens=False)["input_ids"]
        assert ids == [BOS] * adds_bos + own and ids[-1] == EOS and pair[f"{side}_ids"]
        counted = written(pair[f"{side}_ids"], tokenizer).removesuffix("<eos>")
        assert counted.endswith(row[side].removesuffix("<eos>"))
        assert alone[: len(pair["prompt_ids"])] == pair["prompt_ids"] != []
        prompt_ids, completion_ids = tokenize_completion(prompt, row[side], tokenizer)
        assert prompt_ids + completion_ids == ids and len(prompt_ids) == max(
            len(pair["prompt_ids"]), common_prefix(alone, ids)
        )


IDS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(rows=st.lists(st.tuples(IDS, IDS, IDS, st.booleans()), min_size=1, max_size=4), multiple=st.integers(1, 4),
       data=st.data())  # fmt: skip
@example([([PAD], [PAD], [PAD, PAD], True)], 1, None)
def test_batches_hold_the_same_rows_in_any_order(rows, multiple, data):
    pairs = []
    for number, (prompt, chosen, rejected, has_mask) in enumerate(rows):
        pair = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected, "row": number}
        if has_mask:
            for side, ids in (("chosen", chosen), ("rejected", rejected)):
                pair[f"{side}_mask"] = [(place + number) % 2 for place in range(len(prompt + ids) - 1)] + [1]
        pairs.append(pair)
    order = data.draw(st.permutations(range(len(pairs)))) if data else range(len(pairs))
    batch = PairCollator(PAD, multiple)([pairs[number] for number in order])
    assert batch["row"].tolist() == list(order) and batch["input_ids"].shape[1] % multiple == 0
    sides = [(number, side) for side in ("chosen", "rejected") for number in order]
    for (number, side), ids, real, counted in zip(
        sides, batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"], strict=True
    ):
        pair = pairs[number]
        text = pair["prompt_ids"] + pair[f"{side}_ids"]
        assert ids[real].tolist() == text and real.tolist() == [place < len(text) for place in range(len(real))]
        expected = pair.get(f"{side}_mask", [0] * len(pair["prompt_ids"]) + [1] * len(pair[f"{side}_ids"]))
        assert counted[real].tolist() == [bool(bit) for bit in expected]
        assert (ids[~real] == PAD).all() and not torch.any(counted & ~real)
