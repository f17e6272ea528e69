"""SLA: token rewards and look-ahead search with them (arXiv 2503.00029)."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hf_reward_ext.sla.channel import RewardChannel
from hf_reward_ext.sla.decoding import SLAOutput, sla_generate
from hf_reward_ext.sla.logits_processor import SLALogitsProcessor
from hf_reward_ext.sla.metrics import autrc
from hf_reward_ext.sla.model import RewardTransformer
from hf_reward_ext.sla.model_config import RewardTransformerConfig
from hf_reward_ext.sla.search import LookAheadSearch, SearchSettings
from hf_reward_ext.sla.streaming import ConfirmedChunk
from hf_reward_ext.sla.text_classifier import RewardTransformerForSequenceClassification
from hf_reward_ext.sla.trainer import SLATrainer
from hf_reward_ext.sla.trainer_config import SLAConfig

AutoConfig.register("sla_reward_transformer", RewardTransformerConfig)
AutoModel.register(RewardTransformerConfig, RewardTransformer)
AutoModelForSequenceClassification.register(RewardTransformerConfig, RewardTransformerForSequenceClassification)

__all__ = [
    "ConfirmedChunk",
    "LookAheadSearch",
    "RewardChannel",
    "RewardTransformer",
    "RewardTransformerConfig",
    "RewardTransformerForSequenceClassification",
    "SLAConfig",
    "SLALogitsProcessor",
    "SLAOutput",
    "SLATrainer",
    "SearchSettings",
    "autrc",
    "sla_generate",
]
