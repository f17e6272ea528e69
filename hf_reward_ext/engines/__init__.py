"""Engines that write candidates: a model in this process, or a running server."""

from hf_reward_ext.engines.continuous import ContinuousBatchingGenerator
from hf_reward_ext.engines.generator import Generated, Generator, Sampling
from hf_reward_ext.engines.local import TransformersGenerator
from hf_reward_ext.engines.remote_reward import RemoteReward
from hf_reward_ext.engines.server import ServerGenerator

__all__ = [
    "ContinuousBatchingGenerator",
    "Generated",
    "Generator",
    "RemoteReward",
    "Sampling",
    "ServerGenerator",
    "TransformersGenerator",
]
