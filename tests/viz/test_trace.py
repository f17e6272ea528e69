"""Numbers of tokens that a page shows are those of the models."""

import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext import ELHSRForSequenceClassification, ELHSRModel, GenARMRewardModel
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.sla import RewardTransformer
from hf_reward_ext.viz import trace_rewards
from hf_reward_ext.viz.trace import split_tokens

PROMPTS, COMPLETIONS = ["w3 w4", "w5"], [" w6 w7 w8", " w9"]


def model_of(kind):
    policy = tiny_causal_lm()
    if kind == "elhsr":
        return ELHSRForSequenceClassification(policy, ELHSRModel.from_policy(policy))
    if kind == "genarm":
        return GenARMRewardModel.from_causal_lm(policy)
    channel = RewardTransformer.from_base(policy, channel_size=4)
    for parameter in channel.reward_channel.parameters():
        torch.nn.init.normal_(parameter)
    return channel


@pytest.mark.parametrize(
    ("kind", "pool"), [("elhsr", lambda values: values[-1]), ("genarm", sum), ("sla", lambda v: sum(v) / len(v))]
)
def test_numbers_of_tokens_make_the_reward(kind, pool):
    model, tokenizer = model_of(kind), tiny_tokenizer()
    traces = trace_rewards(model, tokenizer, PROMPTS, COMPLETIONS)
    rewards = as_scorer(model, tokenizer)(PROMPTS, COMPLETIONS)
    assert [pool(trace.values) for trace in traces] == pytest.approx(rewards, abs=1e-5)
    assert all(len(trace.tokens) == len(trace.values) > 1 for trace in traces)


def test_other_models_have_no_numbers_of_tokens():
    with pytest.raises(TypeError, match="must have rewards of tokens .* got a `LlamaForCausalLM`"):
        trace_rewards(tiny_causal_lm(), tiny_tokenizer(), PROMPTS, COMPLETIONS)


class Bytes:
    """Tokenizer of bytes, in which a character may have several tokens."""

    def decode(self, ids, **_):
        return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", ["plain", "naïve – 你好 👋", ""])
def test_pieces_make_the_text(text):
    pieces = split_tokens(list(text.encode()), Bytes())
    assert "".join(pieces) == text and len(pieces) == len(text.encode())
    words, end = tiny_tokenizer(), tiny_tokenizer().eos_token_id
    ids = [5, 6, end, 7]
    assert "".join(split_tokens(ids, words)) == words.decode(ids, skip_special_tokens=True)
    tokenizer = load_policy()[1]
    ids = tokenizer("6 1 3 3=12|")["input_ids"]
    assert "".join(split_tokens(ids, tokenizer)) == tokenizer.decode(ids, skip_special_tokens=True)
