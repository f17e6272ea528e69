"""Trainer callbacks that measure the policy in training by a reward, alone and under guides."""

from hf_reward_ext.callbacks.best_of_n import BestOfNCallback
from hf_reward_ext.callbacks.drift import RewardDriftCallback
from hf_reward_ext.callbacks.guided_generation import GuidedGenerationCallback
from hf_reward_ext.callbacks.online_pairs import OnlinePairsCallback

__all__ = ["BestOfNCallback", "GuidedGenerationCallback", "OnlinePairsCallback", "RewardDriftCallback"]
