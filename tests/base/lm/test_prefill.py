import pytest
import torch
from architectures.build import tiny_model
from tiny import ARCHITECTURES, left_padded_batch, tiny_causal_lm

from hf_reward_ext.base.lm.prefill import SharedPrefill


@pytest.mark.stack
@pytest.mark.parametrize("lengths", [(5, 3, 7), (9,), (1,)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_equal_plain_sampling(architecture, lengths):
    policy = tiny_causal_lm(architecture)
    input_ids, attention_mask = left_padded_batch(lengths)
    kwargs = dict(do_sample=True, max_new_tokens=10)
    torch.manual_seed(2)
    plain = policy.generate(input_ids, attention_mask=attention_mask, num_return_sequences=6, **kwargs)
    torch.manual_seed(2)
    shared = SharedPrefill(policy, input_ids, attention_mask).generate(6, **kwargs)
    assert torch.equal(plain, shared)


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_positions_that_a_policy_keeps_from_another_call_are_not_used(model_type):
    policy = tiny_model(model_type, dtype=torch.float32)
    input_ids, attention_mask = left_padded_batch()
    kwargs = dict(do_sample=True, max_new_tokens=6)
    torch.manual_seed(2)
    plain = policy.generate(input_ids, attention_mask=attention_mask, num_return_sequences=3, **kwargs)
    for kept in (torch.zeros(3, 1), torch.full((3, 1), 7), torch.full((9, 1), 7)):  # of prompts with images
        policy.model.rope_deltas = kept.long()
        torch.manual_seed(2)
        assert torch.equal(plain, SharedPrefill(policy, input_ids, attention_mask).generate(3, **kwargs))


def test_the_prompt_is_read_once():
    policy = tiny_causal_lm()
    input_ids, attention_mask = left_padded_batch((9,))
    read = []
    policy.register_forward_pre_hook(lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True)
    SharedPrefill(policy, input_ids, attention_mask).generate(6, do_sample=True, max_new_tokens=3, min_new_tokens=3)
    assert read == [8, 6, 6, 6]


def test_the_cache_serves_several_times():
    policy = tiny_causal_lm()
    input_ids, attention_mask = left_padded_batch()
    prefill = SharedPrefill(policy, input_ids, attention_mask)
    kwargs = dict(do_sample=False, max_new_tokens=6)
    first = prefill.generate(2, last_use=False, **kwargs)
    assert torch.equal(first, prefill.generate(2, **kwargs))


def test_a_policy_whose_cache_cannot_repeat_rows_takes_the_plain_path(monkeypatch):
    monkeypatch.setattr("hf_reward_ext.base.lm.prefill.can_select_rows", lambda _: False)
    policy = tiny_causal_lm()
    input_ids, attention_mask = left_padded_batch()
    kwargs = dict(do_sample=True, max_new_tokens=6)
    torch.manual_seed(2)
    plain = policy.generate(input_ids, attention_mask=attention_mask, num_return_sequences=3, **kwargs)
    torch.manual_seed(2)
    assert torch.equal(plain, SharedPrefill(policy, input_ids, attention_mask).generate(3, **kwargs))
