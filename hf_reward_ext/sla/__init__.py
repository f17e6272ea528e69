"""SLA: a reward for every token, and look-ahead search with it (arXiv 2503.00029)."""

from transformers import AutoConfig, AutoModel

from hf_reward_ext.sla.channel import RewardChannel
from hf_reward_ext.sla.model import RewardTransformer
from hf_reward_ext.sla.model_config import RewardTransformerConfig

AutoConfig.register("sla_reward_transformer", RewardTransformerConfig)
AutoModel.register(RewardTransformerConfig, RewardTransformer)

__all__ = [
    "RewardChannel",
    "RewardTransformer",
    "RewardTransformerConfig",
]
