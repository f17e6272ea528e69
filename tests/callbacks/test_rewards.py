import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import pair_judge, point_judge
from transformers import AutoModelForCausalLM

from hf_reward_ext import ELHSRModel, GenARMRewardModel, TextScorer
from hf_reward_ext.callbacks.prompts import given_prompts
from hf_reward_ext.callbacks.rewards import Rewards
from hf_reward_ext.fast_slow import FastSlowRewardFunction

PROMPTS = given_prompts(["w3", "w4 w5"], tiny_tokenizer())
TEXTS = [[" w6", " w7 w8"], [" w9"]]


def test_functions_get_what_they_have_parameters_for():
    prompts = [prompt._replace(columns={"answer": place}) for place, prompt in enumerate(PROMPTS)]

    def by_column(completions, answer):
        return [len(text) + 10 * own for text, own in zip(completions, answer, strict=True)]

    async def with_everything(prompts, completions, **columns):
        assert columns == {"answer": [0, 0, 1]} and prompts == ["w3", "w3", "w4 w5"]
        return torch.tensor([1.0, 2.0, 3.0])

    assert Rewards(by_column)(prompts, TEXTS) == [[3.0, 6.0], [13.0]]
    assert Rewards(with_everything)(prompts, TEXTS) == [[1.0, 2.0], [3.0]]


def test_chats_get_messages():
    (prompt,) = given_prompts([[{"role": "user", "content": "w3"}]], tiny_tokenizer())
    seen = []
    Rewards(lambda completions: seen.append(completions) or [0.0])([prompt], [["w6"]])
    assert seen == [[[{"role": "assistant", "content": "w6"}]]]


def test_models_heads_and_judges(tmp_path):
    tokenizer = tiny_tokenizer()
    arm = GenARMRewardModel.from_causal_lm(tiny_causal_lm())
    by_object = Rewards(arm, tokenizer)(PROMPTS, [[" w6", ""], [" w9"]])  # nothing written is EOS alone
    assert all(reward < 0 for group in by_object for reward in group)
    arm.save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    by_path = Rewards(str(tmp_path / "rm"))(PROMPTS, [[" w6", ""], [" w9"]])
    assert by_path == [pytest.approx(group, abs=1e-4) for group in by_object]
    tiny_causal_lm().save_pretrained(tmp_path / "policy")
    head = ELHSRModel.from_policy(AutoModelForCausalLM.from_pretrained(tmp_path / "policy"))
    assert len(Rewards(head, tokenizer)(PROMPTS, TEXTS)[0]) == 2
    judge = point_judge()
    rewards = Rewards(judge)(PROMPTS, TEXTS)
    assert rewards == Rewards(FastSlowRewardFunction(judge))(PROMPTS, TEXTS)


def test_what_gives_no_reward_is_refused():
    with pytest.raises(ValueError, match="judge of pairs"):
        Rewards(pair_judge())
    with pytest.raises(TypeError, match="must score text"):
        Rewards(3)
    for function, what in (
        (lambda completions: [1.0], "gave 1 values"),
        (lambda completions: [1.0, None, 1.0], "1 of"),
    ):
        with pytest.raises(ValueError, match=what):
            Rewards(function)(PROMPTS, TEXTS)


def test_a_model_goes_where_the_policy_is():
    scorer = Rewards(TextScorer(GenARMRewardModel.from_causal_lm(tiny_causal_lm()), tiny_tokenizer()))
    scorer.to(torch.device("meta"))
    assert scorer.function.model.device.type == "meta"
