import asyncio

import pytest
from tiny_judges import counted, pair_judge, point_judge

from hf_reward_ext.rewards import FastSlowReward

PROMPTS = ["w4 w5", "w4 w5", "w6", "w6"]
COMPLETIONS = ["w12", "w13 w14", "w12", "w12"]


def test_rewards_are_gated_scores_and_are_remembered():
    judge = point_judge()
    reward = FastSlowReward(judge)
    metrics = {}
    first = asyncio.run(reward(PROMPTS, COMPLETIONS, log_metric=metrics.__setitem__, other=[1]))
    assert first == pytest.approx(judge.score(PROMPTS, COMPLETIONS).tolist(), abs=1e-5)
    assert metrics["fast_slow/cached_rate"] == 0 and 0 <= metrics["fast_slow/slow_rate"] <= 1
    with counted(judge.causal_lm) as shapes:
        again = asyncio.run(reward(PROMPTS, COMPLETIONS, log_metric=metrics.__setitem__))
    assert again == first and shapes == [] and metrics["fast_slow/cached_rate"] == 1


def test_the_share_of_written_judgments_is_logged():
    judge = point_judge()
    judge.gate = judge.gate.with_thresholds(1.01, 1.01)
    metrics = {}
    FastSlowReward(judge).score(PROMPTS, COMPLETIONS, log_metric=metrics.__setitem__)
    assert metrics["fast_slow/slow_rate"] == 1.0


def test_pairwise_judges_compare_the_completions_of_a_prompt():
    judge = pair_judge()
    prompts, completions = ["w4"] * 3 + ["w5"], ["w12", "w13", "w14 w15", "w16"]
    rewards = FastSlowReward(judge).score(prompts, completions)
    one, other = (judge.judge(["w4"], ["w12"], [b])[0].score for b in ("w13", "w14 w15"))
    assert rewards[0] == pytest.approx((one + other) / 2, abs=1e-4)
    assert sum(rewards[:3]) == pytest.approx(0, abs=1e-5) and rewards[3] == 0


def test_what_was_used_last_is_remembered():
    reward, metrics = FastSlowReward(point_judge(), cache_size=2), {}
    reward.score(["w4", "w5"], ["w12", "w12"])
    reward.score(["w4", "w6"], ["w12", "w12"])
    for prompt, cached in (("w4", 1), ("w5", 0)):
        reward.score([prompt], ["w12"], log_metric=metrics.__setitem__)
        assert metrics["fast_slow/cached_rate"] == cached


def test_groups_are_whole_and_the_judge_is_one():
    with pytest.raises(ValueError, match="all 3 completions of a prompt in the same batch, got 2"):
        FastSlowReward(pair_judge(), num_generations=3).score(["w4", "w4"], ["w12", "w13"])
    with pytest.raises(TypeError, match="must be a `FastSlowRewardModel`, got a `function`"):
        FastSlowReward(lambda prompts, completions: [])
