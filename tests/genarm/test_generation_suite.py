"""What `generate` does with a policy, it does with a guided one, or it is refused before anything is computed."""

import copy

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
from guided_reference import Reference
from peft import LoraConfig, get_peft_model
from tiny import BOS, PAD, left_padded_batch, tiny_tokenizer
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin, StaticCache, TextStreamer
from transformers.modeling_outputs import CausalLMOutputWithPast

from hf_reward_ext import GenARMLogitsProcessor, GuidedCausalLM
from hf_reward_ext.base.lm.forward import cache_of, generate_cache_name, positions_of
from hf_reward_ext.genarm.combine import guided_logps

ALPHA = 1.5
COMPOSITES = ["composite", "adapters"]
KINDS = [*COMPOSITES, "processor"]
CACHE = generate_cache_name()


class Guided:
    """A policy with a guide: what is generated with, and what its tokens have to be."""

    def __init__(self, kind, architecture="llama", alpha=ALPHA):
        self.kind, self.policy, self.guide = kind, causal_lm(architecture), causal_lm(architecture, seed=1)
        self.model, self.processors = self.policy, []
        if kind == "composite":
            self.model = GuidedCausalLM(self.policy, self.guide, alpha)
        elif kind == "adapters":
            torch.manual_seed(0)
            transposed = architecture == "gpt2"
            config = LoraConfig(target_modules="all-linear", init_lora_weights=False, r=4, fan_in_fan_out=transposed)
            peft_model = get_peft_model(causal_lm(architecture), config, "arm").eval()
            self.guide = copy.deepcopy(peft_model)
            self.model = GuidedCausalLM.from_peft(peft_model, "arm", alpha)
        else:
            self.processors = [GenARMLogitsProcessor(self.guide, alpha)]
        self.parts = [self.model.base, *self.model.guides] if kind in COMPOSITES else [self.policy, self.guide]

    def generate(self, mode, inputs=None, **kwargs):
        return generate(self.model, mode, inputs, logits_processor=self.processors, **kwargs)

    def reference(self, mode, inputs=None, **kwargs):
        """The same without a cache: every prefix is read again by policy and guide."""
        if self.kind == "processor":
            processor = Reference([self.guide], [ALPHA])
            return generate(self.policy, mode, inputs, logits_processor=[processor], use_cache=False, **kwargs)
        fresh = copy.deepcopy(self.policy)
        fresh.forward = self._fresh_forward
        return generate(fresh, mode, inputs, use_cache=False, **kwargs)

    def _fresh_forward(self, input_ids, **kwargs):
        logits = [model(input_ids, use_cache=False).logits for model in (self.policy, self.guide)]
        weights = torch.full((1, 1, 1), ALPHA)
        return CausalLMOutputWithPast(logits=guided_logps(logits[0], logits[1:], weights, logits[0].shape[-1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mode", "architecture"), CASES)
@torch.no_grad()
def test_modes_of_the_policy_are_modes_of_the_guided_policy(mode, architecture, kind):
    settings, plain = MODES[mode]
    if not works(causal_lm(architecture), settings, architecture):
        pytest.skip("the policy alone cannot do it here")
    guided = Guided(kind, architecture)
    tokens = guided.generate(settings, architecture=architecture)
    if plain is not None:
        assert torch.equal(tokens, guided.reference(plain, architecture=architecture))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_left_padding_changes_nothing(architecture, kind):
    guided = Guided(kind, architecture)
    together = guided.generate({}, ragged_prompts())
    for row, (ids, mask) in enumerate(zip(*left_padded_batch(), strict=True)):
        alone = guided.generate({}, {"input_ids": ids[mask.bool()][None]})
        new = together[row, len(ids) :]
        written = alone[0, int(mask.sum()) :]
        assert torch.equal(new[: len(written)], written) and (new[len(written) :] == PAD).all()
        if kind in COMPOSITES:
            logits = guided.model(ids[None], attention_mask=mask[None], position_ids=positions_of(mask[None])).logits
            torch.testing.assert_close(logits[0, -1], guided.model(ids[mask.bool()][None]).logits[0, -1])


DICTIONARY = dict(
    return_dict_in_generate=True, output_scores=True, output_logits=True, output_attentions=True,
    output_hidden_states=True,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mode", "architecture"), DICTIONARY_CASES)
@torch.no_grad()
def test_dictionaries_hold_what_those_of_the_policy_hold(mode, architecture, kind):
    guided, settings = Guided(kind, architecture), {**MODES[mode][0], **DICTIONARY}
    out = guided.generate(settings, architecture=architecture)
    plain = generate(guided.policy, settings, architecture=architecture)
    assert {name for name in out if out[name] is not None} == {name for name in plain if plain[name] is not None}
    assert torch.equal(out.sequences, guided.generate(MODES[mode][0], architecture=architecture))
    assert len(out.scores) == len(out.logits) and len(out.attentions) == len(out.hidden_states)
    if mode == "beams":
        return
    # Step by step the policy's states, as of a fresh pass over what was written.
    fresh = guided.policy(out.sequences, output_hidden_states=True, output_attentions=True)
    read = 0
    for states, weights in zip(out.hidden_states, out.attentions, strict=True):
        start = 0 if mode == "no cache" else read
        read = start + states[0].shape[1]
        for layer, expected in zip(states, fresh.hidden_states, strict=True):
            torch.testing.assert_close(layer, expected[:, start:read], atol=1e-4, rtol=1e-4)
        assert len(weights) == len(fresh.attentions) and weights[0].shape[:3:2] == (1, read - start)
    prompt = one_prompt()["input_ids"].shape[1]
    if mode in ("greedy", "no cache"):
        for step, (scores, logits) in enumerate(zip(out.scores, out.logits, strict=True)):
            assert int(scores.argmax()) == int(out.sequences[0, prompt + step])
            torch.testing.assert_close(scores.exp().sum(-1), torch.ones(1))
            if kind in COMPOSITES:
                torch.testing.assert_close(logits, scores)
            else:
                torch.testing.assert_close(logits, fresh.logits[:, prompt + step - 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("cache", ["returned", "static"])
@torch.no_grad()
def test_a_call_continues_from_the_cache_of_another(cache, architecture, kind):
    guided, prompts = Guided(kind, architecture), ragged_prompts()
    kept = {}
    if cache != "returned":
        config = guided.model.config
        kept[CACHE] = (
            DynamicCache(config=config) if cache == "dynamic" else StaticCache(config=config, max_cache_len=32)
        )
    three = dict(max_new_tokens=3, min_new_tokens=3)
    first = guided.generate({**three, "return_dict_in_generate": True}, {**prompts, **kept})
    used = kept.get(CACHE, cache_of(first))
    assert used.get_seq_length() == first.sequences.shape[1] - 1
    mask = torch.cat([prompts["attention_mask"], torch.ones(3, 3).long()], 1)
    inputs = {"input_ids": first.sequences, "attention_mask": mask, CACHE: used}
    rest = guided.generate(three, inputs)
    assert torch.equal(rest, guided.generate(dict(max_new_tokens=6, min_new_tokens=6), prompts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_cache_has_a_layer_for_each_of_the_models(architecture):
    for kind in COMPOSITES:
        guided = Guided(kind, architecture)
        out = guided.generate(dict(return_dict_in_generate=True, min_new_tokens=4), ragged_prompts())
        cache, config = cache_of(out), guided.model.config
        layers = sum(part.config.num_hidden_layers for part in guided.parts)
        assert len(cache) == config.num_hidden_layers == layers
        rows = 3 * (1 if kind == "composite" else 2)  # the rows of every guide stand beside the policy's
        assert {layer.keys.shape[0] for layer in cache.layers} == {rows}


def test_caches_of_other_models_are_refused():
    guided = Guided("composite")
    encoder_decoder = EncoderDecoderCache(DynamicCache(), DynamicCache())
    policy_cache = DynamicCache(config=guided.policy.config)
    static = StaticCache(config=guided.policy.config, max_cache_len=32)
    for cache in (policy_cache, static, encoder_decoder):
        for call in (
            lambda cache: guided.generate({CACHE: cache}),
            lambda cache: guided.model(torch.tensor([[4, 5]]), **{CACHE: cache}),
        ):
            with refused(guided.parts, ValueError, "must have 6 layers.*config=guided.config"):
                call(cache)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_without_a_prompt_it_begins_from_bos(kind):
    guided = Guided(kind)
    assert torch.equal(guided.generate({}, {}), guided.generate({}, {"input_ids": torch.tensor([[BOS]])}))
    assert torch.equal(
        guided.generate(dict(bos_token_id=7), {}), guided.generate({}, {"input_ids": torch.tensor([[7]])})
    )


@pytest.mark.parametrize("kind", COMPOSITES)
def test_a_schedule_counts_from_bos(kind):
    steps = []

    def schedule(step):
        steps.append(step)
        return 1.0

    Guided(kind, alpha=schedule).generate(dict(max_new_tokens=3, min_new_tokens=3), {})
    assert steps == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@torch.no_grad()
def test_embeddings_are_refused(with_mask, with_ids, kind):
    guided = Guided(kind)
    inputs = one_prompt()
    embeddings = guided.policy.get_input_embeddings()(inputs["input_ids"])
    given = {name: inputs[name] for name, used in (("input_ids", with_ids), ("attention_mask", with_mask)) if used}
    if kind == "processor" and with_ids:  # then the guides see the prompt
        assert torch.equal(guided.generate({}, {**given, "inputs_embeds": embeddings}), guided.generate({}))
        return
    with refused(guided.parts, ValueError, "`inputs_embeds`.*Pass"):
        guided.generate({}, {**given, "inputs_embeds": embeddings})
    if kind == "processor":
        guided.processors = [GenARMLogitsProcessor(guided.guide, ALPHA, prompt_ids=inputs["input_ids"])]
        written = guided.generate({}, {**given, "inputs_embeds": embeddings})
        assert torch.equal(written, guided.generate({})[:, inputs["input_ids"].shape[1] :])
    else:
        with refused(guided.parts, ValueError, "`input_ids` must be given"):
            guided.model(inputs_embeds=embeddings)


@pytest.mark.parametrize("kind", KINDS)
def test_what_models_cannot_do_together_is_refused(kind):
    guided = Guided(kind)
    with refused(guided.parts, ValueError, "`cache_implementation` must not be 'paged'"):
        guided.generate(dict(cache_implementation="paged"))
    if kind in COMPOSITES:
        with refused(guided.parts, ValueError, "`assistant_early_exit` must not be given"):
            guided.generate(dict(assistant_early_exit=1))
        with refused(guided.parts, ValueError, "`generate_batch` needs a paged cache"):
            guided.model.generate_batch([[4, 5]])
        for name, value in dict(labels=torch.tensor([[4, 5]]), foo=1, return_dict=False, token_type_ids=1).items():
            with refused(guided.parts, ValueError, f"got `{name}`"):
                guided.model(torch.tensor([[4, 5]]), **{name: value})


def test_the_composite_is_a_generative_model_of_its_own():
    for kind in COMPOSITES:
        model = Guided(kind).model
        assert type(model) is GuidedCausalLM and GenerationMixin in type(model).__bases__
        assert model.can_generate() and model.main_input_name == "input_ids"


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_streamers_get_every_token(kind, capsys):
    out = Guided(kind).generate(dict(streamer=TextStreamer(tiny_tokenizer())))
    assert capsys.readouterr().out.split() == tiny_tokenizer().decode(out[0]).split()


@pytest.mark.parametrize("kind", COMPOSITES)
@torch.no_grad()
def test_a_guided_model_drafts_for_the_policy(kind):
    guided = Guided(kind)
    drafted = generate(guided.policy, dict(assistant_model=guided.model))
    assert torch.equal(drafted, generate(guided.policy, {}))
