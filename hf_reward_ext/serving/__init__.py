"""A server of rewards: any scorer over HTTP."""

from hf_reward_ext.serving.limits import Limits
from hf_reward_ext.serving.server import RewardServer

__all__ = ["Limits", "RewardServer"]
