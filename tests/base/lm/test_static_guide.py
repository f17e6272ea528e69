import pytest
import torch
from architectures.build import tiny_model
from tiny import left_padded_batch, tiny_causal_lm
from transformers import CompileConfig

from hf_reward_ext import GenARMLogitsProcessor
from hf_reward_ext.base.lm.static_guide import StaticGuide

MODES = {
    "greedy": dict(do_sample=False),
    "samples": dict(do_sample=True, top_k=0, num_return_sequences=3),
    "beams": dict(do_sample=False, num_beams=3, num_return_sequences=2),
    "prompt lookup": dict(do_sample=False, prompt_lookup_num_tokens=2),  # drafts are taken back
}


@pytest.mark.stack
@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_those_of_caches_that_grow(mode, architecture):
    policy, guide = tiny_causal_lm(), tiny_causal_lm(architecture, seed=1)
    static = GenARMLogitsProcessor(guide, 2.0, static_cache_length=16)
    for seed, lengths in enumerate([(7, 4, 2), (3, 6, 5), (2, 3)]):  # the same memory twice, then another size
        ids, mask = left_padded_batch(lengths if mode != "prompt lookup" else lengths[:1], seed=seed)
        written = []
        for processor in (static, GenARMLogitsProcessor(guide, 2.0)):
            torch.manual_seed(seed)
            settings = dict(max_new_tokens=8, logits_processor=[processor]) | MODES[mode]
            written.append(policy.generate(ids, attention_mask=mask, **settings))
        assert torch.equal(*written)


def test_memory_is_kept_between_calls_but_not_out_of_inference_mode():
    guide = StaticGuide(tiny_causal_lm(), length=8)
    ids = torch.tensor([[4, 5, 6]])
    first = guide.next_token_logits(ids)
    keys = guide._readings.value.cache.layers[0].keys
    guide.forget()
    assert torch.equal(guide.next_token_logits(ids), first)
    assert guide._readings.value.cache.layers[0].keys is keys
    guide.forget()
    with torch.inference_mode():
        assert torch.equal(guide.next_token_logits(ids), first)
    guide.forget()
    assert torch.equal(guide.next_token_logits(ids), first)


def test_what_a_static_cache_cannot_hold_is_refused_before_a_token():
    policy, guide, reads = tiny_causal_lm(), tiny_causal_lm(seed=1), []
    policy.register_forward_pre_hook(lambda module, args: reads.append(module))
    processor = GenARMLogitsProcessor(guide, static_cache_length=8)
    for settings in (dict(max_new_tokens=7), dict(max_length=10)):
        with pytest.raises(ValueError, match="up to 9 tokens, got a length of 8. Raise it to 9"):
            policy.generate(torch.tensor([[4, 5, 6]]), logits_processor=[processor], **settings)
    assert not reads
    written = policy.generate(torch.tensor([[4, 5, 6]]), logits_processor=[processor], max_new_tokens=6)
    assert written.shape[1] <= 9
    with pytest.raises(ValueError, match="up to 9 tokens"):
        processor(torch.full((1, 9), 4), torch.zeros(1, 32))


def test_options_are_checked():
    guide = tiny_causal_lm()
    with pytest.raises(ValueError, match="`static_cache_length` must be given with `compile_config`"):
        GenARMLogitsProcessor(guide, compile_config=CompileConfig())
    for length in (0, 1.5, True, "8"):
        with pytest.raises(ValueError, match="positive `int`, got"):
            GenARMLogitsProcessor(guide, static_cache_length=length)
    with pytest.raises(TypeError, match="must be a `CompileConfig`, got `dict`"):
        GenARMLogitsProcessor(guide, static_cache_length=8, compile_config={})
    with pytest.raises(ValueError, match="must have attention layers only"):
        GenARMLogitsProcessor(tiny_model("mamba", dtype=torch.float32), static_cache_length=8)
