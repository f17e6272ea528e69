import asyncio

import pytest
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import counted, pair_judge, point_judge
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from hf_reward_ext.fast_slow import FastSlowRewardFunction

PROMPTS = ["w4 w5", "w4 w5", "w6", "w6"]
COMPLETIONS = ["w12", "w13 w14", "w12", "w12"]


def test_rewards_are_gated_scores_and_are_remembered():
    judge = point_judge()
    reward = FastSlowRewardFunction(judge)
    metrics = {}
    first = asyncio.run(reward(PROMPTS, COMPLETIONS, log_metric=metrics.__setitem__, other=[1]))
    assert first == pytest.approx(judge.score(PROMPTS, COMPLETIONS).tolist(), abs=1e-5)
    assert metrics["fast_slow/cached_rate"] == 0 and 0 <= metrics["fast_slow/slow_rate"] <= 1
    with counted(judge.causal_lm) as shapes:
        again = asyncio.run(FastSlowRewardFunction.__call__(reward, PROMPTS, COMPLETIONS, metrics.__setitem__))
    assert again == first and shapes == [] and metrics["fast_slow/cached_rate"] == 1


def test_the_share_of_written_judgments_is_logged():
    judge = point_judge()
    judge.gate = judge.gate.with_thresholds(1.01, 1.01)
    _, metrics = FastSlowRewardFunction(judge).rewards(PROMPTS, COMPLETIONS)
    assert metrics["slow_rate"] == 1.0


def test_pairwise_judges_compare_the_completions_of_a_prompt():
    judge = pair_judge()
    prompts, completions = ["w4"] * 3 + ["w5"], ["w12", "w13", "w14 w15", "w16"]
    rewards, _ = FastSlowRewardFunction(judge).rewards(prompts, completions)
    one, other = (judge.judge(["w4"], ["w12"], [b])[0].score for b in ("w13", "w14 w15"))
    assert rewards[0] == pytest.approx((one + other) / 2, abs=1e-4)
    assert sum(rewards[:3]) == pytest.approx(0, abs=1e-5) and rewards[3] == 0


def test_what_was_used_last_is_remembered():
    reward = FastSlowRewardFunction(point_judge(), cache_size=2)
    reward.rewards(["w4", "w5"], ["w12", "w12"])
    reward.rewards(["w4", "w6"], ["w12", "w12"])
    assert reward.rewards(["w4"], ["w12"])[1]["cached_rate"] == 1
    assert reward.rewards(["w5"], ["w12"])[1]["cached_rate"] == 0


@pytest.mark.stack
@pytest.mark.parametrize(("trainer_class", "config_class"), [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)])
@pytest.mark.parametrize("wrap", [FastSlowRewardFunction, lambda judge: judge], ids=["function", "judge"])
def test_trl_takes_it(tmp_path, wrap, trainer_class, config_class):
    judge = point_judge()
    args = config_class(
        str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=4, beta=0.0,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        logging_steps=1,
    )  # fmt: skip
    reward = wrap(judge)
    trainer = trainer_class(
        tiny_causal_lm(seed=1), reward, args, Dataset.from_list([{"prompt": "w4 w5"}] * 4),
        processing_class=tiny_tokenizer(),
        **({"reward_processing_classes": tiny_tokenizer()} if reward is judge else {}),
    )  # fmt: skip
    trainer.train()
    logged = trainer.state.log_history[0]
    if reward is not judge:
        assert "rewards/fast_slow/mean" in logged and "fast_slow/slow_rate" in logged
    assert logged["reward_std"] >= 0
