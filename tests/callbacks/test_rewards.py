import pytest
import torch
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import pair_judge, point_judge
from transformers import AutoModelForCausalLM

from hf_reward_ext import ELHSRModel, GenARMRewardModel, TextScorer
from hf_reward_ext.callbacks.prompts import given_prompts
from hf_reward_ext.callbacks.rewards import RewardCaller
from hf_reward_ext.rewards import FastSlowReward

PROMPTS = given_prompts(["w3", "w4 w5"], tiny_tokenizer())
TEXTS = [[" w6", " w7 w8"], [" w9"]]


def test_functions_get_what_they_have_parameters_for():
    prompts = [prompt._replace(columns={"answer": place}) for place, prompt in enumerate(PROMPTS)]

    def by_column(completions, answer):
        return [len(text) + 10 * own for text, own in zip(completions, answer, strict=True)]

    async def with_everything(prompts, completions, **columns):
        assert columns == {"answer": [0, 0, 1]} and prompts == ["w3", "w3", "w4 w5"]
        return torch.tensor([1.0, 2.0, 3.0])

    assert RewardCaller(by_column)(prompts, TEXTS) == [[3.0, 6.0], [13.0]]
    assert RewardCaller(with_everything)(prompts, TEXTS) == [[1.0, 2.0], [3.0]]


def test_chats_get_messages():
    (prompt,) = given_prompts([[{"role": "user", "content": "w3"}]], tiny_tokenizer())
    seen = []
    RewardCaller(lambda completions: seen.append(completions) or [0.0])([prompt], [["w6"]])
    assert seen == [[[{"role": "assistant", "content": "w6"}]]]


def test_models_heads_and_judges(tmp_path):
    tokenizer = tiny_tokenizer()
    arm = GenARMRewardModel.from_causal_lm(tiny_causal_lm())
    by_object = RewardCaller(arm, tokenizer)(PROMPTS, [[" w6", ""], [" w9"]])  # nothing written is EOS alone
    assert all(reward < 0 for group in by_object for reward in group)
    arm.save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    by_path = RewardCaller(str(tmp_path / "rm"))(PROMPTS, [[" w6", ""], [" w9"]])
    assert by_path == [pytest.approx(group, abs=1e-4) for group in by_object]
    tiny_causal_lm().save_pretrained(tmp_path / "policy")
    head = ELHSRModel.from_policy(AutoModelForCausalLM.from_pretrained(tmp_path / "policy"))
    assert len(RewardCaller(head, tokenizer)(PROMPTS, TEXTS)[0]) == 2
    judge = point_judge()
    rewards = RewardCaller(judge)(PROMPTS, TEXTS)
    assert rewards == RewardCaller(FastSlowReward(judge))(PROMPTS, TEXTS)


def test_what_gives_no_reward_is_refused():
    with pytest.raises(ValueError, match="judge of pairs"):
        RewardCaller(pair_judge())
    with pytest.raises(TypeError, match="must score text"):
        RewardCaller(3)
    for function, what in (
        (lambda completions: [1.0], r"shape \(1,\) for 3"),
        (lambda completions: [1.0, float("nan"), 1.0], "1 of 3.*response 1"),
    ):
        with pytest.raises(ValueError, match=what):
            RewardCaller(function)(PROMPTS, TEXTS)


def test_no_answer_is_none():
    assert RewardCaller(lambda completions: [1.0, None, 2])(PROMPTS, TEXTS) == [[1.0, None], [2.0]]


def test_a_model_goes_where_the_policy_is():
    scorer = RewardCaller(TextScorer(GenARMRewardModel.from_causal_lm(tiny_causal_lm()), tiny_tokenizer()))
    scorer.to(torch.device("meta"))
    assert scorer.scorer.models[0].device.type == "meta"
