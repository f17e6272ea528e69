"""What `generate` does with a base, it does with a channel beside it, or it is refused before any computation."""

import pytest
import torch
from generation_suite import (
    ARCHITECTURES,
    CASES,
    DICTIONARY_CASES,
    MODES,
    causal_lm,
    generate,
    one_prompt,
    ragged_prompts,
    refused,
    works,
)
from tiny import BOS, tiny_tokenizer
from transformers import DynamicCache, GenerationMixin, StaticCache, TextStreamer

from hf_reward_ext import RewardTransformer
from hf_reward_ext.base.lm.forward import cache_of, generate_cache_name

CACHE = generate_cache_name()
DICTIONARY = dict(
    return_dict_in_generate=True, output_scores=True, output_logits=True, output_attentions=True,
    output_hidden_states=True,
)  # fmt: skip


def both(architecture="llama"):
    """A base, and a twin of it with a channel beside it."""
    return causal_lm(architecture), RewardTransformer.from_base(causal_lm(architecture), channel_size=8).eval()


@pytest.mark.parametrize(("mode", "architecture"), CASES)
@torch.no_grad()
def test_modes_of_the_base_are_modes_of_the_whole(mode, architecture):
    base, rt = both(architecture)
    settings = MODES[mode][0]
    if not works(base, settings, architecture):
        pytest.skip("the base alone cannot do it here")
    assert torch.equal(
        generate(rt, settings, architecture=architecture), generate(base, settings, architecture=architecture)
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mode", ["greedy", "sampling", "beams"])
@torch.no_grad()
def test_ragged_prompts(mode, architecture):
    base, rt = both(architecture)
    written = [generate(model, MODES[mode][0], ragged_prompts()) for model in (rt, base)]
    assert torch.equal(*written)


@pytest.mark.parametrize(("mode", "architecture"), DICTIONARY_CASES)
@torch.no_grad()
def test_dictionaries_are_those_of_the_base(mode, architecture):
    base, rt = both(architecture)
    settings = {**MODES[mode][0], **DICTIONARY}
    ours, theirs = (generate(model, settings, architecture=architecture) for model in (rt, base))
    filled = {name for name in theirs if theirs[name] is not None}
    assert {name for name in ours if ours[name] is not None} == filled
    for name in filled - {CACHE, "past_key_values"}:
        ours_flat, theirs_flat = list(flat(ours[name])), list(flat(theirs[name]))
        assert len(ours_flat) == len(theirs_flat)
        for a, b in zip(ours_flat, theirs_flat, strict=True):
            torch.testing.assert_close(a, b)
    for a, b in zip(cache_of(ours).layers, cache_of(theirs).layers, strict=True) if CACHE in filled else []:
        torch.testing.assert_close(a.keys, b.keys)


def flat(value):
    if isinstance(value, torch.Tensor):
        yield value
    else:
        for part in value:
            yield from flat(part)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("cache", ["returned", "dynamic", "static"])
@torch.no_grad()
def test_a_call_continues_from_the_cache_of_another(cache, architecture):
    _, rt = both(architecture)
    prompts, kept = ragged_prompts(), {}
    if cache != "returned":
        kept[CACHE] = (
            DynamicCache(config=rt.config) if cache == "dynamic" else StaticCache(config=rt.config, max_cache_len=32)
        )
    three = dict(max_new_tokens=3, min_new_tokens=3)
    first = generate(rt, {**three, "return_dict_in_generate": True}, {**prompts, **kept})
    used = kept.get(CACHE, cache_of(first))
    mask = torch.cat([prompts["attention_mask"], torch.ones(3, 3).long()], 1)
    rest = generate(rt, three, {"input_ids": first.sequences, "attention_mask": mask, CACHE: used})
    assert torch.equal(rest, generate(rt, dict(max_new_tokens=6, min_new_tokens=6), prompts))


@pytest.mark.parametrize("with_ids", [False, True])
@torch.no_grad()
def test_embeddings_instead_of_ids(with_ids):
    base, rt = both()
    inputs = one_prompt()
    given = {"inputs_embeds": base.get_input_embeddings()(inputs["input_ids"])}
    given |= {"input_ids": inputs["input_ids"]} if with_ids else {}
    assert torch.equal(generate(rt, {}, dict(given)), generate(base, {}, dict(given)))


@torch.no_grad()
def test_without_a_prompt_it_begins_from_bos():
    base, rt = both()
    assert torch.equal(generate(rt, {}, {}), generate(base, {}, {}))
    assert torch.equal(generate(rt, {}, {}), generate(rt, {}, {"input_ids": torch.tensor([[BOS]])}))


def test_what_it_cannot_do_is_refused():
    _, rt = both()
    with refused([rt.base], ValueError, "`cache_implementation` must not be 'paged'"):
        generate(rt, dict(cache_implementation="paged"))
    with refused([rt.base], ValueError, "`assistant_early_exit` must not be given"):
        generate(rt, dict(assistant_early_exit=1))
    with refused([rt.base], ValueError, "`generate_batch` needs a paged cache"):
        rt.generate_batch([[4, 5]])


def test_it_is_a_generative_model_of_its_own():
    _, rt = both()
    assert GenerationMixin in type(rt).__bases__ and rt.can_generate() and rt.main_input_name == "input_ids"


@torch.no_grad()
def test_streamers_get_every_token(capsys):
    _, rt = both()
    out = generate(rt, dict(streamer=TextStreamer(tiny_tokenizer())))
    assert capsys.readouterr().out.split() == tiny_tokenizer().decode(out[0]).split()


@torch.no_grad()
def test_it_drafts_for_another_model():
    base, rt = both()
    assert torch.equal(generate(base, dict(assistant_model=rt)), generate(base, {}))
