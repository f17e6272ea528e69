"""
The four methods on an accelerator: float64 against the CPU token by token, half precision within its roundings.

Marked `gpu` and skipped without an accelerator; `pytest -m gpu tests/gpu` runs them.
"""

import copy

import pytest
import torch
from guided_reference import Reference
from peft import LoraConfig, get_peft_model
from tiny import left_padded_batch, tiny_causal_lm
from tiny_judges import pair_judge
from transformers import CompileConfig

from hf_reward_ext import (
    ELHSRModel,
    GenARMLogitsProcessor,
    GuidedCausalLM,
    HiddenStateReward,
    RewardTransformer,
    SLALogitsProcessor,
    sla_generate,
)
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.genarm.separate_models import SeparateModels

ALPHA = 1.5
UNIT = {torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12}  # unit roundoff; 16 roundings as in test_half_precision.py
types = pytest.mark.parametrize("dtype", UNIT, ids=lambda dtype: str(dtype).removeprefix("torch."))


def model_on(device, seed=0, dtype=torch.float64):
    model = tiny_causal_lm(seed=seed, dtype=dtype)
    model.set_attn_implementation("sdpa")  # eager attention takes softmaxes in float32
    return model.to(device)


def write(model, device, **kwargs):
    ids, mask = (values.to(device) for values in left_padded_batch())
    return model.generate(ids, attention_mask=mask, **{"max_new_tokens": 12, "do_sample": False, **kwargs}).cpu()


def adapted(device):
    torch.manual_seed(0)
    config = LoraConfig(target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model_on(device), config, "arm", autocast_adapter_dtype=False).eval()


def guided(way, device):
    """What generates, its processors, the policy alone and the guide."""
    policy, guide = model_on(device), model_on(device, seed=1)
    if way == "processor":
        return policy, [GenARMLogitsProcessor(guide, ALPHA)], policy, guide
    if way == "compiled processor":
        static = dict(static_cache_length=32, compile_config=CompileConfig())
        return policy, [GenARMLogitsProcessor(guide, ALPHA, **static)], policy, guide
    if way == "adapters":
        model = adapted(device)
        return GuidedCausalLM.from_peft(model, "arm", ALPHA), [], policy, copy.deepcopy(model)
    reader = SeparateModels(policy, guide, use_streams=way == "streams")
    return GuidedCausalLM(policy, reader, ALPHA), [], policy, guide


@pytest.mark.parametrize("mode", [{}, dict(num_beams=3), dict(cache_implementation="static")], ids=str)
@pytest.mark.parametrize("way", ["processor", "compiled processor", "composite", "streams", "adapters"])
def test_guided_tokens_equal_fresh_readings(way, mode, device):
    model, processors, policy, guide = guided(way, device)
    plain = {name: value for name, value in mode.items() if name == "num_beams"}
    expected = write(policy, device, use_cache=False, logits_processor=[Reference([guide], [ALPHA])], **plain)
    for _ in range(2):  # a graph is captured by the first call and replayed by the second
        assert torch.equal(write(model, device, logits_processor=processors, **mode), expected)


@types
@torch.no_grad()
def test_guidance_in_half_precision(dtype, device):
    models = [model_on(device, seed, torch.float32).to(dtype) for seed in (0, 1)]
    wide = [copy.deepcopy(model).float() for model in models]
    ids = torch.randint(3, 32, (3, 9), device=device)
    logps, expected = (GuidedCausalLM(*pair, ALPHA)(ids).logits for pair in (models, wide))
    errors = [
        (half(ids).logits.float() - full(ids).logits).abs().max() for half, full in zip(models, wide, strict=True)
    ]
    assert logps.dtype == torch.float32
    assert (logps - expected).abs().max() <= 2 * (errors[0] + ALPHA * errors[1]) + 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, *UNIT], ids=str)
@torch.no_grad()
def test_rewards_read_while_generating(dtype, device):
    policy = model_on(device, dtype=dtype)
    wide, head = copy.deepcopy(policy).double(), ELHSRModel.from_policy(policy).to(device)
    ids, mask = (values.to(device) for values in left_padded_batch())
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=True)
    new = out.shape[1] - ids.shape[1]
    features = teacher_forced_features(wide, head.config, out, torch.cat([mask, mask.new_ones(len(mask), new)], 1))
    expected = head.token_rewards(features)[1][:, -new:][meter.completion_mask]
    rewards = meter.token_rewards[1][meter.completion_mask]
    tolerance = 16 * UNIT.get(dtype, 1e-6) * expected.abs().max()
    assert (rewards - expected).abs().max() <= tolerance


@torch.no_grad()
def test_searches_write_what_they_write_on_a_cpu(device):
    torch.manual_seed(0)
    rt = RewardTransformer.from_base(model_on("cpu"), channel_size=8).double().eval()
    for values in rt.reward_channel.parameters():
        values.copy_(torch.randn_like(values) * 0.3)
    search = dict(width=2, step=2, depth=2)
    expected = write(rt, "cpu", custom_generate=sla_generate, **search)
    rt.to(device)
    assert torch.equal(write(rt, device, custom_generate=sla_generate, **search), expected)
    assert torch.equal(write(rt.base, device, logits_processor=[SLALogitsProcessor(rt, **search)]), expected)


@types
@torch.no_grad()
def test_searches_in_half_precision(dtype, device):
    base = model_on(device, dtype=dtype)
    rt = RewardTransformer.from_base(base, channel_size=8).to(device).eval()
    assert torch.equal(write(rt, device, custom_generate=sla_generate, width=1), write(base, device))
    rewards = [
        model(torch.arange(3, 12, device=device)[None]).token_rewards
        for model in (rt, RewardTransformer(copy.deepcopy(base).float(), copy.deepcopy(rt.reward_channel).float()))
    ]
    assert (rewards[0] - rewards[1]).abs().max() <= 16 * UNIT[dtype] * rewards[1].abs().max()


@types
@torch.no_grad()
def test_verdicts_in_half_precision(dtype, device):
    half = model_on(device, dtype=dtype)
    full = copy.deepcopy(half).float()
    rows = (["w4 w5", "w6", "w7 w8 w9"], ["w12 w13", "w14", "w15"], ["w22", "w13 w12", "w16"])
    fast = [
        torch.tensor([one.fast_scores for one in pair_judge(model).judge(*rows, mode="fast")]) for model in (half, full)
    ]
    size = float(full(torch.arange(3, 12, device=device)[None]).logits.abs().max())
    assert (fast[0] - fast[1]).abs().max() <= 2 * 16 * UNIT[dtype] * size
    for judgment in pair_judge(half).judge(*rows, mode="slow"):
        assert 0 <= judgment.probability <= 1 and judgment.num_tokens > 2
