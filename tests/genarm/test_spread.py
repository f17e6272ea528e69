"""Policy and guide whose layers are spread over places by a device map, some of them offloaded to the disk."""

import pytest
import torch
from accelerate import dispatch_model
from tiny import left_padded_batch, tiny_causal_lm, tiny_tokenizer

from hf_reward_ext import ELHSRModel, GenARMLogitsProcessor, GuidedCausalLM, HiddenStateReward

PLACES = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu",
          **{f"model.layers.{layer}": "cpu" for layer in range(3)}}  # fmt: skip
OFFLOADED = {
    "a layer": {"model.layers.1": "disk"},
    "the last layers and the head": {"model.layers.2": "disk", "model.norm": "disk", "lm_head": "disk"},
}


def spread(seed, offloaded, folder):
    places = {**PLACES, **OFFLOADED[offloaded]}
    return dispatch_model(tiny_causal_lm(seed=seed), places, main_device="cpu", offload_dir=folder, force_hooks=True)


def write(policy, *processors):
    ids, mask = left_padded_batch()
    return policy.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, logits_processor=[*processors])


@pytest.mark.parametrize("offloaded", OFFLOADED)
@pytest.mark.parametrize("who", ["guide", "both"])
def test_guided_tokens_are_those_of_whole_models(who, offloaded, tmp_path):
    policy, guide = tiny_causal_lm(), tiny_causal_lm(seed=1)
    expected = write(policy, GenARMLogitsProcessor(guide, 1.5))
    assert not torch.equal(expected, write(policy))
    guide = spread(1, offloaded, tmp_path / "guide")
    if who == "both":
        policy = spread(0, offloaded, tmp_path / "policy")
    assert torch.equal(write(policy, GenARMLogitsProcessor(guide, 1.5)), expected)
    assert torch.equal(write(GuidedCausalLM(policy, [guide], [1.5])), expected)


@pytest.mark.parametrize("offloaded", OFFLOADED)
def test_rewards_of_a_spread_policy_are_those_of_a_whole_one(offloaded, tmp_path):
    whole, policy = tiny_causal_lm(), spread(0, offloaded, tmp_path)
    head = ELHSRModel.from_policy(whole, tiny_tokenizer())
    with HiddenStateReward(whole, head) as expected:
        tokens = write(whole)
    with HiddenStateReward(policy, head) as found:
        assert torch.equal(write(policy), tokens)
    torch.testing.assert_close(found.rewards, expected.rewards)
