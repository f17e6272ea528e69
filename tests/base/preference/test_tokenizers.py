"""Prompt and completion of texts under tokenizers that add tokens, write spaces, and merge over the boundary."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hf_reward_ext.base.preference.pairs import tokenize_completion, tokenize_preference, tokenize_prompt

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
CORPUS = ["2+2=4 yes good", "12 + 30 = 42", "no, bad thing.", "Why? Because it is so.\n\nAnswer: 7"] * 20


def byte_level(adds_bos=False, adds_eos=False):
    """Byte-level BPE with merges, as GPT-2's, Llama 3's and Qwen's."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return finished(backend, trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet),
                    adds_bos, adds_eos)  # fmt: skip


def prefix_space(adds_bos=True, adds_eos=False):
    """BPE that writes a space before every text, as Llama 2's and Mistral's."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    alphabet = list("".join(CORPUS))
    return finished(backend, trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL, initial_alphabet=alphabet),
                    adds_bos, adds_eos)  # fmt: skip


def finished(backend, trainer, adds_bos, adds_eos):
    backend.train_from_iterator(CORPUS, trainer)
    if adds_bos or adds_eos:
        single = "<bos> $A" if adds_bos else "$A"
        backend.post_processor = processors.TemplateProcessing(
            single=single + (" <eos>" if adds_eos else ""), special_tokens=[("<bos>", 1), ("<eos>", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


TOKENIZERS = {
    "bytes": byte_level(),
    "bytes, BOS": byte_level(adds_bos=True),
    "bytes, BOS and EOS": byte_level(adds_bos=True, adds_eos=True),
    "prefix space, BOS": prefix_space(),
    "prefix space, BOS and EOS": prefix_space(adds_eos=True),
    "prefix space": prefix_space(adds_bos=False),
}


def texts(count=60):
    rng = random.Random(0)
    pieces = ["2", "+", "=", " ", "yes", "no", "good", "bad", "thing", ".", "\n", "?", "12", "Why", "so"]
    for _ in range(count):
        yield tuple("x" + "".join(rng.choices(pieces, k=rng.randint(1, 6))) + end for end in (rng.choice(pieces), ""))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_prompt_and_completion_are_the_text_once(name):
    tokenizer = TOKENIZERS[name]
    for prompt, completion in texts():
        prompt_ids, completion_ids = tokenize_completion(prompt, completion, tokenizer)
        ids = prompt_ids + completion_ids
        assert prompt_ids and completion_ids and completion_ids.count(2) == 1 and completion_ids[-1] == 2
        assert ids.count(1) == ("BOS" in name)
        assert ids[:-1] == tokenizer(prompt + completion)["input_ids"][: len(ids) - 1]
        # A token over the boundary is the completion's, so only the prompt's last tokens may be missing.
        alone = [one for one in tokenizer(prompt)["input_ids"] if one != 2]
        assert alone[: len(prompt_ids)] == prompt_ids


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_that_brings_its_own_bos_and_eos(name):
    tokenizer = TOKENIZERS[name]
    for prompt, completion in texts(10):
        plain = tokenize_completion(prompt, completion, tokenizer)
        assert tokenize_completion(prompt, completion + "<eos>", tokenizer) == plain
        marked = tokenize_completion("<bos>" + prompt, completion, tokenizer)
        assert marked[0].count(1) == 1 and tokenize_prompt("<bos>" + prompt, tokenizer).count(1) == 1


@pytest.mark.parametrize("name", TOKENIZERS)
def test_pairs_share_their_prompt_and_are_tokenized_once(name):
    tokenizer = TOKENIZERS[name]
    for prompt, completion in texts(20):
        row = {"prompt": prompt, "chosen": completion + " yes", "rejected": completion + " no"}
        pair = tokenize_preference(row, tokenizer)
        for side in ("chosen", "rejected"):
            whole = tokenize_completion(prompt, row[side], tokenizer)
            assert pair["prompt_ids"] + pair[f"{side}_ids"] == whole[0] + whole[1]
        assert tokenize_preference(pair, tokenizer) == pair
        # TRL's form: both sides with the prompt.
        joined = {side: pair["prompt_ids"] + pair[f"{side}_ids"] for side in ("chosen", "rejected")}
        ready = tokenize_preference({"prompt": prompt, **{f"{side}_ids": joined[side] for side in joined}}, tokenizer)
        assert ready == pair
        legacy = tokenize_preference({f"{side}_input_ids": joined[side] for side in joined}, tokenizer)
        assert legacy["prompt_ids"] + legacy["chosen_ids"] == joined["chosen"]


def test_a_prompt_without_a_token_of_its_own_is_refused():
    tokenizer = TOKENIZERS["bytes"]
    assert len(tokenizer("go")["input_ids"]) == 1  # "good" was merged from it
    with pytest.raises(ValueError, match="`prompt` must have a token of its own, but 'g' becomes one token"):
        tokenize_completion("g", "ood", tokenizer)
