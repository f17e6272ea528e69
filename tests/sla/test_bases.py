"""Bases in half precision, quantized, and spread over devices."""

import pytest
import torch
from accelerate import dispatch_model
from sla_models import ragged_prompts
from tiny import left_padded_batch, tiny_causal_lm
from torch import nn
from transformers import TextIteratorStreamer

from hf_reward_ext.sla import RewardTransformer, SLALogitsProcessor, sla_generate

SEARCH = dict(width=2, step=2, depth=1)
LENGTH = dict(max_new_tokens=9, eos_token_id=[], pad_token_id=0)


class Int8Linear(nn.Module):
    """Integer weights and one scale: what a quantized layer keeps."""

    def __init__(self, linear):
        super().__init__()
        scale = linear.weight.abs().max() / 127
        self.weight = nn.Parameter((linear.weight / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale.detach())

    def forward(self, values):
        return values @ (self.weight.to(values.dtype) * self.scale).T


def quantized(base):
    """The base with integer weights, and one with the same weights as floats."""
    for name, module in list(base.model.named_modules()):
        if isinstance(module, nn.Linear):
            base.model.set_submodule(name, Int8Linear(module))
    floats = tiny_causal_lm()
    for name, module in base.model.named_modules():
        if isinstance(module, Int8Linear):
            floats.model.get_submodule(name).weight.data = module.weight.float() * module.scale
    base.is_quantized = True
    return base, floats


def with_channel(base, dtype=torch.float32):
    torch.manual_seed(0)
    rt = RewardTransformer.from_base(base, channel_size=8).eval()
    for parameter in rt.reward_channel.parameters():
        nn.init.normal_(parameter)
    return rt


def both(rt, **inputs):
    """Tokens of both front ends, which have to be the same."""
    fast = rt.generate(**inputs, custom_generate=sla_generate, **SEARCH, **LENGTH)
    plain = rt.generate(**inputs, logits_processor=[SLALogitsProcessor(rt, **SEARCH)], **LENGTH)
    assert torch.equal(fast, plain)
    return fast


def inputs_of(lengths=(5, 3, 7)):
    input_ids, attention_mask = left_padded_batch(lengths)
    return dict(input_ids=input_ids, attention_mask=attention_mask)


def test_a_quantized_base_gives_what_its_weights_as_floats_give():
    base, floats = quantized(tiny_causal_lm())
    ours, plain = with_channel(base), with_channel(floats)
    assert ours.reward_channel.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(ours(**inputs_of()).token_rewards, plain(**inputs_of()).token_rewards)
    assert torch.equal(both(ours, **inputs_of()), both(plain, **inputs_of()))


def test_both_front_ends_agree_in_half_precision():
    both(with_channel(tiny_causal_lm(dtype=torch.bfloat16)), **inputs_of())


@pytest.mark.parametrize("head", ["cpu", "disk"])
def test_a_base_that_is_spread_over_places_gives_the_same(head, tmp_path):
    places = {f"model.layers.{layer}": "disk" if layer == 1 else "cpu" for layer in range(3)}
    places.update({"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": head})
    spread = dispatch_model(tiny_causal_lm(), places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    ours, plain = with_channel(spread), with_channel(tiny_causal_lm())
    assert ours.hf_device_map == places and ours.reward_channel.device.type == "cpu"
    with torch.no_grad():
        found, expected = ours(**inputs_of()), plain(**inputs_of())
    torch.testing.assert_close(found.token_rewards, expected.token_rewards)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(both(ours, **inputs_of()), both(plain, **inputs_of()))


def test_a_plain_generate_may_stream_and_use_a_static_cache_beside_the_processor():
    from tiny import tiny_tokenizer

    rt = with_channel(tiny_causal_lm())
    input_ids, _ = ragged_prompts((4,), seed=1)
    expected = both(rt, input_ids=input_ids)
    streamer = TextIteratorStreamer(tiny_tokenizer(), skip_prompt=True)
    processor = SLALogitsProcessor(rt, **SEARCH)
    found = rt.generate(input_ids, logits_processor=[processor], streamer=streamer, **LENGTH)
    assert torch.equal(found, expected)
    assert "".join(streamer).split() == tiny_tokenizer().decode(expected[0, 4:]).split()
    static = rt.base.generate(
        input_ids, logits_processor=[processor], cache_implementation="static", disable_compile=True, **LENGTH
    )
    assert torch.equal(static, expected)
