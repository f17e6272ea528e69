"""Rewards read off a running `generate` against a second, teacher-forced pass over the same ids."""

import pytest
import torch
from tiny import ARCHITECTURES, EOS, PAD, left_padded_batch, tiny_causal_lm
from transformers import GenerationConfig

from hf_reward_ext.base.lm.forward import cache_of
from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean

MODES = {
    "greedy": dict(do_sample=False),
    "sampling": dict(do_sample=True),
    "8 return sequences": dict(do_sample=True, num_return_sequences=8),
    "beams": dict(do_sample=False, num_beams=4),
    "beams, several returned": dict(do_sample=False, num_beams=4, num_return_sequences=3),
    "beam sampling": dict(do_sample=True, num_beams=3),
    "static cache": dict(do_sample=False, cache_implementation="static"),
    "no cache": dict(do_sample=True, use_cache=False),
    "returned as dict": dict(do_sample=True, return_dict_in_generate=True),
    "from a config": dict(generation_config=GenerationConfig(do_sample=True, eos_token_id=EOS, pad_token_id=PAD)),
}
SINGLE_ROW_MODES = {"assistant": True, "prompt lookup": False}


def second_pass(policy, head, sequences, prompt_mask):
    """Gates, rewards and mask of the completion, every sequence recomputed from its ids alone."""
    copies = len(sequences) // len(prompt_mask)
    prompt_mask = prompt_mask.repeat_interleave(copies, 0)
    new = sequences.shape[1] - prompt_mask.shape[1]
    attention_mask = torch.cat([prompt_mask, prompt_mask.new_ones(len(sequences), new)], -1)
    gates, rewards = head.token_rewards(teacher_forced_features(policy, head.config, sequences, attention_mask))
    mask = completion_mask_from_ids(sequences[:, -new:], [EOS], None)  # a random policy writes PAD too
    return gates[:, -new:], rewards[:, -new:], mask


def assert_scored(meter, policy, head, out, prompt_mask, atol=1e-5):
    sequences = getattr(out, "sequences", out)
    gates, rewards, mask = second_pass(policy, head, sequences, prompt_mask)
    expected = gated_mean(gates, rewards, mask)
    torch.testing.assert_close(meter.rewards, expected, atol=atol, rtol=1e-5)
    torch.testing.assert_close(meter.score(out), expected, atol=atol, rtol=1e-5)
    assert torch.equal(meter.completion_mask, mask)
    torch.testing.assert_close(meter.token_rewards[1][mask], rewards[mask], atol=atol, rtol=1e-4)


@pytest.mark.stack
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_second_pass(architecture, mode):
    policy = tiny_causal_lm(architecture)
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    kwargs = dict(attention_mask=attention_mask, **MODES[mode])
    if "generation_config" in kwargs:
        kwargs["generation_config"].max_new_tokens = 12
    else:
        kwargs["max_new_tokens"] = 12
    torch.manual_seed(1)
    plain = policy.generate(input_ids, **kwargs)
    torch.manual_seed(1)
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(input_ids, **kwargs)
    assert torch.equal(getattr(out, "sequences", out), getattr(plain, "sequences", plain))
    assert_scored(meter, policy, head, out, attention_mask)


@pytest.mark.stack
@pytest.mark.parametrize("with_assistant", SINGLE_ROW_MODES.values(), ids=SINGLE_ROW_MODES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_assisted_decoding(architecture, with_assistant):
    policy = tiny_causal_lm(architecture)
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch((6,))
    # The assistant is a perturbed copy, so that some of its drafts are taken back.
    assistant = tiny_causal_lm(architecture)
    for parameter in assistant.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    drafts = dict(assistant_model=assistant) if with_assistant else dict(prompt_lookup_num_tokens=3)
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(input_ids, do_sample=False, max_new_tokens=25, **drafts)
    assert torch.equal(out, policy.generate(input_ids, do_sample=False, max_new_tokens=25))
    assert_scored(meter, policy, head, out, attention_mask)


@pytest.mark.parametrize("features", [dict(), dict(top_logprobs=5)], ids=["all logits", "top 5"])
def test_logits_mode(features):
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy, features="logits", **features)
    input_ids, attention_mask = left_padded_batch()
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(
            input_ids, attention_mask=attention_mask, do_sample=True, num_return_sequences=2, max_new_tokens=9
        )
    assert_scored(meter, policy, head, out, attention_mask, atol=2e-5)


def test_chosen_layers_without_a_gate():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy, layers=[-1], gate=False)
    input_ids, attention_mask = left_padded_batch()
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(input_ids, attention_mask=attention_mask, do_sample=True, max_new_tokens=9)
    assert_scored(meter, policy, head, out, attention_mask)
    assert (meter.token_rewards[0] == 1).all()


def test_last_token_can_be_left_out():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    forwards = []
    handle = policy.register_forward_hook(lambda *_: forwards.append(1))
    kwargs = dict(attention_mask=attention_mask, do_sample=False, max_new_tokens=6, min_new_tokens=6)
    with HiddenStateReward(policy, head, last_token="skip") as meter:
        out = policy.generate(input_ids, **kwargs)
    assert len(forwards) == 6
    handle.remove()
    gates, rewards, mask = second_pass(policy, head, out, attention_mask)
    mask[:, -1] = False
    torch.testing.assert_close(meter.rewards, gated_mean(gates, rewards, mask), atol=1e-5, rtol=1e-5)


def test_prefix_rewards_are_rewards_of_prefixes():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(input_ids, attention_mask=attention_mask, do_sample=False, max_new_tokens=6)
    gates, rewards, mask = second_pass(policy, head, out, attention_mask)
    for length in range(1, out.shape[1] - input_ids.shape[1] + 1):
        torch.testing.assert_close(
            meter.prefix_rewards[:, length - 1],
            gated_mean(gates[:, :length], rewards[:, :length], mask[:, :length]),
            atol=1e-5,
            rtol=1e-5,
        )


def test_each_generate_starts_again_without_leftovers():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    first, first_mask = left_padded_batch()
    second, second_mask = left_padded_batch((4, 2), seed=7)
    before = dict(vars(policy))
    with HiddenStateReward(policy, head) as meter:
        policy.generate(first, attention_mask=first_mask, do_sample=True, max_new_tokens=5)
        out = policy.generate(second, attention_mask=second_mask, do_sample=True, max_new_tokens=8)
        assert_scored(meter, policy, head, out, second_mask)
    assert "generate" not in vars(policy) and "prepare_inputs_for_generation" not in vars(policy)
    assert not policy._forward_hooks and not policy._forward_pre_hooks
    assert vars(policy).keys() == before.keys() | {"_output_capturing_hooks_installed"} & vars(policy).keys()


def test_returned_cache_is_as_without_the_meter():
    policy = tiny_causal_lm()
    input_ids, attention_mask = left_padded_batch()
    kwargs = dict(attention_mask=attention_mask, do_sample=False, max_new_tokens=6, return_dict_in_generate=True)
    with HiddenStateReward(policy, ELHSRModel.from_policy(policy)):
        out = policy.generate(input_ids, **kwargs)
    plain = policy.generate(input_ids, **kwargs)
    assert cache_of(out).get_seq_length() == cache_of(plain).get_seq_length()
    torch.testing.assert_close(cache_of(out).layers[0].keys, cache_of(plain).layers[0].keys)


@pytest.mark.stack
def test_policy_with_an_adapter():
    from peft import LoraConfig, get_peft_model

    policy = get_peft_model(
        tiny_causal_lm(),
        LoraConfig(target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    ).eval()
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(input_ids=input_ids, attention_mask=attention_mask, do_sample=True, max_new_tokens=8)
    assert_scored(meter, policy, head, out, attention_mask)


def test_bfloat16_agrees_with_its_own_second_pass():
    policy = tiny_causal_lm(dtype=torch.bfloat16)
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    with HiddenStateReward(policy, head) as meter:
        out = policy.generate(input_ids, attention_mask=attention_mask, do_sample=False, max_new_tokens=8)
    assert meter.rewards.dtype == torch.float32
    gates, rewards, mask = second_pass(policy, head, out, attention_mask)
    torch.testing.assert_close(meter.rewards, gated_mean(gates, rewards, mask), atol=0.2, rtol=0.05)


def test_refusals():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    input_ids, _ = left_padded_batch((4,))
    with pytest.raises(ValueError, match="hidden_size=16.*trained with `hidden_size=24`"):
        HiddenStateReward(policy, ELHSRModel.from_policy(tiny_causal_lm(hidden_size=24)))
    with pytest.raises(ValueError, match="`last_token` must be one of 'forward', 'skip', got 'drop'"):
        HiddenStateReward(policy, head, last_token="drop")
    with HiddenStateReward(policy, head) as meter:
        with pytest.raises(RuntimeError, match="No `generate` has run"):
            _ = meter.rewards
        with pytest.raises(RuntimeError, match="one open `HiddenStateReward`"):
            HiddenStateReward(policy, head).__enter__()
        with pytest.raises(ValueError, match="instead of `inputs_embeds`"):
            policy.generate(inputs_embeds=policy.get_input_embeddings()(input_ids), max_new_tokens=2)


def test_forwards_of_the_policy_outside_generate_are_left_alone():
    policy = tiny_causal_lm()
    head = ELHSRModel.from_policy(policy)
    input_ids, attention_mask = left_padded_batch()
    plain = policy(input_ids, attention_mask=attention_mask).logits
    with HiddenStateReward(policy, head) as meter:
        torch.testing.assert_close(policy(input_ids, attention_mask=attention_mask).logits, plain)
        with pytest.raises(RuntimeError, match="No `generate` has run"):
            _ = meter.rewards
        out = policy.generate(input_ids, attention_mask=attention_mask, max_new_tokens=4)
        before = meter.rewards.clone()
        torch.testing.assert_close(policy(input_ids, attention_mask=attention_mask).logits, plain)
        torch.testing.assert_close(meter.rewards, before)
    assert_scored(meter, policy, head, out, attention_mask)


def test_paged_generation_is_refused():
    policy = tiny_causal_lm()
    with HiddenStateReward(policy, ELHSRModel.from_policy(policy)):
        with pytest.raises(ValueError, match="paged.*Leave `cache_implementation` out"):
            policy.generate(torch.tensor([[4, 5]]), cache_implementation="paged")
