"""
The four methods in bfloat16 and float16 on a CPU, against the same rounded weights in float32.

A tolerance is a number of roundings: a value of size s that passed n of them is wrong by about n u s, where u is the
unit roundoff of the type (2^-9, 2^-12). The tiny models have 3 layers of about 4 roundings each that reach the output,
and a head: `ROUNDINGS = 16`. Sums of log-probabilities, softmax and the channel's rewards are float32 in every method,
so that they add nothing to it: where a bound follows from the models' own errors, the bound itself is tested.
"""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import EOS, PAD, VOCAB, left_padded_batch, tiny_causal_lm
from tiny_judges import pair_judge

from hf_reward_ext import (
    ELHSRModel,
    GenARMLogitsProcessor,
    GenARMRewardModel,
    GuidedCausalLM,
    HiddenStateReward,
    RewardTransformer,
    sla_generate,
)
from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.genarm.combine import guided_logps

ROUNDINGS = 16
UNIT = {torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12}
ARCHITECTURES = ["llama", "qwen3", "gemma3_text", "gpt_neox"]
types = pytest.mark.parametrize("dtype", UNIT, ids=lambda dtype: str(dtype).removeprefix("torch."))
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


def half_and_full(architecture, dtype, seed=0):
    """A model in half precision, and the same weights in float32."""
    model = tiny_causal_lm(architecture, seed=seed, initializer_range=0.2).to(dtype)
    return model, copy.deepcopy(model).float()


def close(half, full, dtype):
    """Equal within the roundings, relative to the largest value."""
    error, size = (half.float() - full.float()).abs().max(), full.float().abs().max()
    assert error <= ROUNDINGS * UNIT[dtype] * size, f"{error:.3g} of {size:.3g}"


@types
@architectures
@torch.no_grad()
def test_guidance_adds_no_rounding_of_its_own(architecture, dtype):
    (policy, policy_full), (guide, guide_full) = (half_and_full(architecture, dtype, seed) for seed in (0, 1))
    ids = torch.randint(3, VOCAB, (3, 9))
    logps = GuidedCausalLM(policy, guide, 1.5)(ids).logits
    expected = GuidedCausalLM(policy_full, guide_full, 1.5)(ids).logits
    assert logps.dtype == torch.float32
    # A log-softmax moves by at most twice the largest error of its input.
    errors = [(half(ids).logits.float() - full(ids).logits).abs().max() for half, full in
              ((policy, policy_full), (guide, guide_full))]  # fmt: skip
    assert 0 < (logps - expected).abs().max() <= 2 * (errors[0] + 1.5 * errors[1]) + 1e-4


@types
@architectures
@pytest.mark.parametrize("cache", [None, "static"])
@torch.no_grad()
def test_guided_tokens_are_best_within_the_rounding(architecture, dtype, cache):
    (policy, policy_full), (guide, guide_full) = (half_and_full(architecture, dtype, seed) for seed in (0, 1))
    full = GuidedCausalLM(policy_full, guide_full, 1.5)
    ids, mask = left_padded_batch((4, 6))
    for model, processors in ((GuidedCausalLM(policy, guide, 1.5), []), (policy, [GenARMLogitsProcessor(guide, 1.5)])):
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=6, logits_processor=processors, cache_implementation=cache
        )
        written = out[:, ids.shape[1] :]
        logits = [
            values[:, :-1]
            for values in full.separate_logits(
                out, torch.cat([mask, torch.ones_like(written)], 1), logits_to_keep=written.shape[1] + 1
            )
        ]
        logps = guided_logps(logits[0], logits[1:], torch.tensor([1.5]), VOCAB)
        # The sum has the errors of both models, and a difference of two of its values twice.
        slack = 2 * ROUNDINGS * UNIT[dtype] * (logits[0].abs().max() + 1.5 * logits[1].abs().max())
        lost = logps.max(-1).values - logps.gather(-1, written[..., None])[..., 0]
        assert lost[completion_mask_from_ids(written, [EOS], PAD)].max() <= slack


@types
@torch.no_grad()
def test_adapters_as_guides(dtype):
    policy, _ = half_and_full("llama", dtype)
    config = LoraConfig(target_modules="all-linear", init_lora_weights=False, r=4)
    ids = torch.randint(3, VOCAB, (3, 9))
    for autocast in (True, False):  # adapters in float32, PEFT's default, or in the policy's type
        model = get_peft_model(copy.deepcopy(policy), config, "arm", autocast_adapter_dtype=autocast).eval()
        full = copy.deepcopy(model).float()
        logps = [GuidedCausalLM.from_peft(one, ["arm"])(ids).logits for one in (model, full)]
        close(*logps, dtype)


@types
@architectures
@torch.no_grad()
def test_rewards_of_a_genarm_model(architecture, dtype):
    half, full = half_and_full(architecture, dtype)
    ids, mask = left_padded_batch()
    rewards = [GenARMRewardModel.from_causal_lm(model)(ids, mask).token_rewards for model in (half, full)]
    assert rewards[0].dtype == torch.float32
    close(*rewards, dtype)


@types
@architectures
@torch.no_grad()
def test_rewards_read_while_generating(architecture, dtype):
    half, full = half_and_full(architecture, dtype)
    ids, mask = left_padded_batch()
    head = ELHSRModel.from_policy(half)
    with HiddenStateReward(half, head) as meter:
        out = half.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=True)
    new = out.shape[1] - ids.shape[1]
    features = teacher_forced_features(full, head.config, out, torch.cat([mask, mask.new_ones(len(mask), new)], 1))
    _, expected = head.token_rewards(features)
    rewards = meter.token_rewards[1]
    assert rewards.dtype == torch.float32
    close(rewards[meter.completion_mask], expected[:, -new:][meter.completion_mask], dtype)


@types
@architectures
@torch.no_grad()
def test_rewards_of_a_channel(architecture, dtype):
    half, full = half_and_full(architecture, dtype)
    torch.manual_seed(0)
    rt = RewardTransformer.from_base(half, channel_size=8).eval()
    for values in rt.reward_channel.parameters():
        values.copy_(torch.randn_like(values) * 0.3)
    wide = RewardTransformer(full, copy.deepcopy(rt.reward_channel).float()).eval()
    ids, mask = left_padded_batch()
    rewards = [model(ids, attention_mask=mask).token_rewards[mask.bool()] for model in (rt, wide)]
    assert rewards[0].dtype == torch.float32
    close(*rewards, dtype)
    plain = half.generate(ids, attention_mask=mask, max_new_tokens=6)
    searched = rt.generate(ids, attention_mask=mask, max_new_tokens=6, custom_generate=sla_generate, width=1)
    assert torch.equal(searched, plain)


@types
@torch.no_grad()
def test_verdicts_of_a_judge(dtype):
    half, full = half_and_full("llama", dtype)
    rows = (["w4 w5", "w6", "w7 w8 w9"], ["w12 w13", "w14", "w15"], ["w22", "w13 w12", "w16"])
    scores = [
        torch.tensor([judgment.fast_scores for judgment in pair_judge(model).judge(*rows, mode="fast")])
        for model in (half, full)
    ]
    size = max(full(ids).logits.abs().max() for ids in torch.randint(3, VOCAB, (8, 1, 9)))
    # A score is a difference of two logits.
    assert 0 < (scores[0] - scores[1]).abs().max() <= 2 * ROUNDINGS * UNIT[dtype] * size
    for number, judgment in enumerate(pair_judge(half).judge(*rows, mode="fast")):
        alone = pair_judge(half).judge(*[[column[number]] for column in rows], mode="fast")[0]
        assert judgment.fast_scores == pytest.approx(alone.fast_scores, abs=2 * ROUNDINGS * UNIT[dtype] * float(size))
    for judgment in pair_judge(half).judge(*rows, mode="slow"):
        assert 0 <= judgment.probability <= 1 and judgment.num_tokens > 2
