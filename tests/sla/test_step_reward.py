"""The search takes rewards of tokens, and refuses rewards of whole texts before it reads anything."""

import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import point_judge
from transformers import LlamaConfig, LlamaForSequenceClassification, T5Config, T5ForConditionalGeneration

from hf_reward_ext import GenARMRewardModel, RewardTransformer, TextScorer, sla_generate
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.sla.step_reward import resolve_reward

SMALL = dict(vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)


def classifier():
    return LlamaForSequenceClassification(LlamaConfig(**SMALL, num_labels=1, pad_token_id=0))


def encoder_decoder():
    return T5ForConditionalGeneration(T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))


@pytest.mark.parametrize(
    "reward",
    [
        "path/to/reward_model",
        classifier(),
        encoder_decoder(),
        TextScorer(classifier(), tiny_tokenizer()),
        as_scorer(classifier(), tiny_tokenizer()),
        GenARMRewardModel.from_causal_lm(tiny_causal_lm()),
        point_judge(),
        lambda prompts, completions: [0.0] * len(completions),
        lambda: 0.0,
        dict,
        3,
    ],
    ids=lambda reward: type(reward).__name__,
)
def test_rewards_of_whole_texts_are_refused(reward, monkeypatch):
    policy = tiny_causal_lm()
    monkeypatch.setattr(type(policy), "forward", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(TypeError, match="`reward` must be .*got a .*the search needs"):
        policy.generate(torch.tensor([[3, 4]]), custom_generate=sla_generate, reward=reward, max_new_tokens=2)


@pytest.mark.parametrize("reward", [lambda step: 0, lambda *given: 0, lambda step, scale=2: 0, print])
def test_callables_on_a_step_are_taken(reward):
    policy = tiny_causal_lm()
    assert resolve_reward(policy, reward) == (policy, reward)
    assert resolve_reward(RewardTransformer.from_base(policy, channel_size=4), reward)[0] is policy
