"""Callbacks sample plainly, whatever the policy's generation config holds, and leave it as it was."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.callbacks.candidates import Sampling, plain_generation, sample_candidates
from hf_reward_ext.callbacks.prompts import given_prompts

PROMPTS = given_prompts(["w3 w4", "w5"], tiny_tokenizer())
CONFIGS = [
    dict(repetition_penalty=5.0),
    dict(min_p=0.9),
    dict(top_k=1),
    dict(top_p=0.1),
    dict(typical_p=0.1),
    dict(epsilon_cutoff=0.1),
    dict(temperature=0.01),
    dict(do_sample=False),
    dict(no_repeat_ngram_size=1),
    dict(bad_words_ids=[[number] for number in range(8, 30)]),
    dict(suppress_tokens=list(range(8, 30))),
    dict(begin_suppress_tokens=list(range(8, 30))),
    dict(sequence_bias=[[[9], 100.0]]),
    dict(forced_eos_token_id=9),
    dict(min_new_tokens=6),
    dict(exponential_decay_length_penalty=(1, 50.0)),
    dict(num_beams=3),
    dict(max_length=4),
    dict(renormalize_logits=True, remove_invalid_values=True, guidance_scale=3.0),
    dict(cache_implementation="static"),
    dict(return_dict_in_generate=True),
]


def sample(policy):
    groups, _ = sample_candidates(policy, tiny_tokenizer(), PROMPTS, 3, Sampling(max_new_tokens=8))
    return groups


@pytest.mark.parametrize("settings", CONFIGS, ids=lambda settings: next(iter(settings)))
def test_nothing_of_the_generation_config_but_special_tokens_holds(settings):
    expected = sample(tiny_causal_lm())
    policy = tiny_causal_lm()
    for name, value in settings.items():
        setattr(policy.generation_config, name, value)
    config = policy.generation_config
    assert sample(policy) == expected
    assert policy.generation_config is config and all(
        getattr(config, name) == value for name, value in settings.items()
    )


def test_eos_holds_and_adapters_keep_their_configs():
    policy = get_peft_model(tiny_causal_lm(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    policy.generation_config.repetition_penalty = 5.0
    configs = policy.generation_config, policy.get_base_model().generation_config
    assert sample(policy) == sample(tiny_causal_lm())
    assert (policy.generation_config, policy.get_base_model().generation_config) == configs
    policy = tiny_causal_lm()
    policy.generation_config.eos_token_id = list(range(32))
    assert {len(candidate.ids) for group in sample(policy) for candidate in group} == {1}
    assert not any(candidate.is_cut for group in sample(policy) for candidate in group)
    policy.generation_config.eos_token_id = None  # the tokenizer's then
    assert sample(policy) == sample(tiny_causal_lm())


def test_the_config_comes_back_after_an_error():
    policy = tiny_causal_lm()
    config = policy.generation_config
    with pytest.raises(RuntimeError), plain_generation(policy, tiny_tokenizer()):
        assert policy.generation_config is not config
        raise RuntimeError
    assert policy.generation_config is config


def test_a_filler_is_no_token_of_a_candidate():
    """Llama, Mistral and GPT-2 fill with EOS: ids alone do not show whether it was written."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    stop = {"stopping_criteria": [lambda ids, scores, **_: torch.isin(ids[:, -1], torch.arange(9, 14))]}
    sampling = Sampling(max_new_tokens=12, generation_kwargs=stop)
    groups, _ = sample_candidates(tiny_causal_lm(), tokenizer, PROMPTS, 8, sampling)
    ended = [candidate.ids for group in groups for candidate in group if not candidate.is_cut]
    stops = set(range(9, 14))
    assert any(ids[-1] in stops for ids in ended)
    assert all(ids[-1] in stops or (ids[-1] == 2 and not stops & set(ids)) for ids in ended)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(max_new_tokens=0), "`max_new_tokens` must be at least 1"),
        (dict(temperature=0.0), "`temperature` must be a positive number"),
        (dict(temperature=float("nan")), "`temperature` must be a positive number"),
        (dict(generation_kwargs={"num_return_sequences": 2}), r"must not hold \['num_return_sequences'\]"),
        (dict(generation_kwargs={"generation_config": None}), r"must not hold \['generation_config'\]"),
    ],
)
def test_settings_are_checked_when_they_are_made(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)
