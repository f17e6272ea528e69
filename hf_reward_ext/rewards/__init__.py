"""Rewards for the `reward_funcs` of TRL's trainers: small pieces that combine."""

from typing import TYPE_CHECKING, Any

from hf_reward_ext.base.scoring.weighted import WeightedReward
from hf_reward_ext.rewards.conditioned import ConditionedReward
from hf_reward_ext.rewards.fast_slow_reward import FastSlowReward
from hf_reward_ext.rewards.groupwise import GroupwiseReward, TokenCost
from hf_reward_ext.rewards.length import LengthControlled
from hf_reward_ext.rewards.matching import AnswerReward, FormatReward
from hf_reward_ext.rewards.model_reward import ModelReward
from hf_reward_ext.rewards.reward import AsyncReward, Reward, Scored, SyncReward
from hf_reward_ext.rewards.step_reward import StepReward
from hf_reward_ext.rewards.step_search import StepSearchReward
from hf_reward_ext.rewards.steps import aggregate_steps, split_steps
from hf_reward_ext.rewards.token_mean import TokenRewardMean

if TYPE_CHECKING:
    from hf_reward_ext.rewards.step_grpo_trainer import StepGRPOTrainer


def __getattr__(name: str) -> Any:
    if name != "StepGRPOTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hf_reward_ext.rewards.step_grpo_trainer import StepGRPOTrainer  # importing TRL's trainer takes half a second

    return StepGRPOTrainer


__all__ = [
    "AnswerReward",
    "AsyncReward",
    "ConditionedReward",
    "FastSlowReward",
    "FormatReward",
    "GroupwiseReward",
    "LengthControlled",
    "ModelReward",
    "Reward",
    "Scored",
    "StepGRPOTrainer",
    "StepReward",
    "StepSearchReward",
    "SyncReward",
    "TokenCost",
    "TokenRewardMean",
    "WeightedReward",
    "aggregate_steps",
    "split_steps",
]
