"""Engines that write candidates: a model in this process, or a running server."""

from hf_reward_ext.engines.continuous import ContinuousBatchingGenerator
from hf_reward_ext.engines.generator import Generated, Generator, Sampling
from hf_reward_ext.engines.local import TransformersGenerator
from hf_reward_ext.engines.remote_reward import RemoteReward
from hf_reward_ext.engines.server import ServerGenerator
from hf_reward_ext.engines.vllm import VllmGenerator
from hf_reward_ext.engines.vllm_states import VllmStateGenerator, vllm_state_arguments

__all__ = [
    "ContinuousBatchingGenerator",
    "Generated",
    "Generator",
    "RemoteReward",
    "Sampling",
    "ServerGenerator",
    "TransformersGenerator",
    "VllmGenerator",
    "VllmStateGenerator",
    "vllm_state_arguments",
]
