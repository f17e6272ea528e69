import pytest
import torch
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer

from hf_reward_ext import GenARMRewardModel, TextScorer
from hf_reward_ext.base.scoring.weighted import WeightedReward

PROMPTS, COMPLETIONS = ["w1", "w1", "w2"], [" w3 w4", " w5", " w6 w7 w8"]


def length(prompts, completions, **kwargs):
    return [100.0 + 10 * len(completion.split()) for completion in completions]


def early(prompts, completions, **kwargs):
    return [float("w3" in completion) if "w6" not in completion else None for completion in completions]


def test_rewards_are_added_as_they_are_or_by_their_deviation():
    scorer = TextScorer(GenARMRewardModel.from_causal_lm(tiny_causal_lm()), tiny_tokenizer())
    reward = WeightedReward([length, scorer], [0.5, 2.0])
    expected = 0.5 * torch.tensor([120.0, 110.0, 130.0]) + 2 * scorer(PROMPTS, COMPLETIONS)
    torch.testing.assert_close(reward(PROMPTS, COMPLETIONS), expected)
    assert reward.separate(PROMPTS, COMPLETIONS).shape == (3, 2)
    fitted = reward.fit(PROMPTS, COMPLETIONS)
    standardized = scorer(PROMPTS, COMPLETIONS)
    standardized = (standardized - standardized.mean()) / standardized.std()
    torch.testing.assert_close(
        fitted(PROMPTS, COMPLETIONS), 0.5 * torch.tensor([0.0, -1.0, 1.0]) + 2 * standardized, atol=1e-4, rtol=1e-4
    )


def test_a_missing_reward_stays_missing_and_equal_weights_sum_to_one():
    found = WeightedReward([length, early])(PROMPTS, COMPLETIONS)
    torch.testing.assert_close(found, torch.tensor([60.5, 55.0, torch.nan]), equal_nan=True)


def test_trl_trains_on_it(tmp_path):
    arm = TextScorer(GenARMRewardModel.from_causal_lm(tiny_causal_lm(seed=1)), tiny_tokenizer())
    args = GRPOConfig(
        str(tmp_path), num_generations=2, per_device_train_batch_size=4, max_completion_length=4, max_steps=1,
        report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", logging_steps=1,
    )  # fmt: skip
    trainer = GRPOTrainer(
        tiny_causal_lm(), reward_funcs=WeightedReward([arm, length]), args=args,
        train_dataset=Dataset.from_dict({"prompt": ["w1 w2", "w3 w4"]}), processing_class=tiny_tokenizer(),
    )  # fmt: skip
    trainer.train()
    assert "rewards/weighted_reward/mean" in trainer.state.log_history[0]


def test_what_has_no_weight_or_no_scale_is_refused():
    for scorers, weights in (([], None), ([length], [0.5, 0.5]), ([length], [float("nan")])):
        with pytest.raises(ValueError, match=f"each of the {len(scorers)} scorers"):
            WeightedReward(scorers, weights)
    with pytest.raises(ValueError, match="Scorer 0 gives 2 completions rewards with the deviation 0.0"):
        WeightedReward([length]).fit(["w1", "w2"], [" w3", " w4"])
    with pytest.raises(ValueError, match="Scorer 1 gives 3 completions rewards with the deviation nan"):
        WeightedReward([length, early]).fit(PROMPTS, COMPLETIONS)
