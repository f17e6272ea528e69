"""Trainer callbacks: how good the policy in training is by a reward, and under guides."""

from hf_reward_ext.callbacks.best_of_n import BestOfNCallback
from hf_reward_ext.callbacks.guided_generation import GuidedGenerationCallback

__all__ = ["BestOfNCallback", "GuidedGenerationCallback"]
