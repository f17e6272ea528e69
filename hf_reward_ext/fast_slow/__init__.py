"""Fast-Slow reward models: one token when sure, a written judgement when not (arXiv 2603.20212, reconstructed)."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hf_reward_ext.fast_slow.decoding import FastSlowGenerationMixin, FastSlowStoppingCriteria
from hf_reward_ext.fast_slow.gate import Gate
from hf_reward_ext.fast_slow.judgment import Judgment, judgments_to_dataset, position_bias
from hf_reward_ext.fast_slow.model import FastSlowRewardModel
from hf_reward_ext.fast_slow.model_config import FastSlowRewardModelConfig
from hf_reward_ext.fast_slow.prompt import JudgePrompt, JudgeTemplate

AutoConfig.register("fast_slow", FastSlowRewardModelConfig)
AutoModel.register(FastSlowRewardModelConfig, FastSlowRewardModel)
AutoModelForSequenceClassification.register(FastSlowRewardModelConfig, FastSlowRewardModel)

__all__ = [
    "FastSlowGenerationMixin",
    "FastSlowRewardModel",
    "FastSlowRewardModelConfig",
    "FastSlowStoppingCriteria",
    "Gate",
    "JudgePrompt",
    "JudgeTemplate",
    "Judgment",
    "judgments_to_dataset",
    "position_bias",
]
