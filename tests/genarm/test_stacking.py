"""Grammars of xgrammar and outlines beside a guide: what they forbid stays forbidden, in either order."""

import re

import pytest
import torch
from tiny import VOCAB, left_padded_batch, tiny_causal_lm
from tokenizers import Tokenizer, decoders, models
from transformers import LogitsProcessor, PreTrainedTokenizerFast

from hf_reward_ext import GenARMLogitsProcessor, GuidedCausalLM

GRAMMAR = "(ab|ba)c{0,3}[01]{2}"
IDS, MASK = left_padded_batch()
LETTERS = ["<pad>", "<bos>", "<eos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz01"]
MODES = {"greedy": dict(do_sample=False), "sampling": dict(do_sample=True, num_return_sequences=4)}


def letters():
    """A tokenizer whose tokens are letters."""
    backend = Tokenizer(models.BPE({word: number for number, word in enumerate(LETTERS)}, [], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def xgrammar_processor(policy):
    xgrammar = pytest.importorskip("xgrammar")
    from xgrammar.contrib.hf import LogitsProcessor as Processor

    info = xgrammar.TokenizerInfo.from_huggingface(letters(), vocab_size=VOCAB)
    return Processor(xgrammar.GrammarCompiler(info).compile_regex(GRAMMAR))


def outlines_processor(policy):
    outlines = pytest.importorskip("outlines")
    from outlines.backends import get_regex_logits_processor

    return get_regex_logits_processor("outlines_core", outlines.from_transformers(policy, letters()), GRAMMAR)


GRAMMARS = [xgrammar_processor, outlines_processor]


class Witness(LogitsProcessor):
    """Keeps the scores that pass through it."""

    def __init__(self):
        self.scores = []

    def __call__(self, input_ids, scores):
        self.scores.append(scores.clone())
        return scores


def generate(model, processors, seed=0, **kwargs):
    torch.manual_seed(seed)
    return model.generate(IDS, attention_mask=MASK, max_new_tokens=10, logits_processor=processors, **kwargs)


def texts(sequences):
    return letters().batch_decode(sequences[:, IDS.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("mode", MODES)
def test_order_does_not_matter_and_every_text_is_in_the_grammar(grammar, mode):
    policy, guide = tiny_causal_lm(), tiny_causal_lm(seed=1)
    guided = GenARMLogitsProcessor(guide, alpha=1.0)  # one object for all calls; a grammar's serves one
    first = generate(policy, [grammar(policy), guided], **MODES[mode])
    second = generate(policy, [guided, grammar(policy)], **MODES[mode])
    composite = generate(GuidedCausalLM(policy, guide, alpha=1.0), [grammar(policy)], **MODES[mode])
    assert torch.equal(first, second) and torch.equal(first, composite)
    assert all(re.fullmatch(GRAMMAR, text) for text in texts(first))
    alone = [generate(policy, [one], **MODES[mode]) for one in (grammar(policy), guided)]
    assert texts(first) != texts(alone[0]) and not re.fullmatch(GRAMMAR, texts(alone[1])[0])


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_what_the_grammar_forbids_keeps_probability_zero_and_the_rest_is_the_guided_distribution(grammar):
    policy, guide = tiny_causal_lm(dtype=torch.float64), tiny_causal_lm(seed=1, dtype=torch.float64)
    ids = IDS[2:]  # the longest: without padding
    before, after = Witness(), Witness()
    processors = [before, grammar(policy), GenARMLogitsProcessor(guide, alpha=0.7), after]
    out = policy.generate(ids, max_new_tokens=10, logits_processor=processors)
    allowed = {letter for letter in "ab"}
    for step, (base, scores) in enumerate(zip(before.scores, after.scores, strict=True)):
        is_allowed = torch.tensor([[word in allowed for word in LETTERS]])
        assert torch.equal(scores.isneginf(), ~is_allowed), step
        assert float(scores.exp().sum()) == pytest.approx(1.0, abs=1e-6)
        prefix = out[:, : ids.shape[1] + step]
        expected = base.double().log_softmax(-1) + 0.7 * guide(prefix).logits[:, -1].log_softmax(-1)
        expected = expected.masked_fill(~is_allowed, -torch.inf).log_softmax(-1)
        torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)
        allowed = next_letters(letters().decode(prefix[0, ids.shape[1] :]) + LETTERS[int(out[0, prefix.shape[1]])])


def next_letters(text):
    """What may follow `text` in the grammar, by trying."""
    if re.fullmatch(GRAMMAR, text):
        return {"<eos>"}
    endings = ("", "0", "00", "a0", "b00", "c00", "a00", "ab00", "ba00")
    return {
        letter
        for letter in LETTERS[4:]
        if any(re.fullmatch(GRAMMAR, text + letter + ending) for ending in endings)
    }  # fmt: skip
