"""Fast-Slow reward models: one token if confident, a written judgment otherwise (arXiv 2603.20212, reconstructed)."""

from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hf_reward_ext.fast_slow.calibrate.drift import DriftMonitor
from hf_reward_ext.fast_slow.decode.decoding import FastSlowGenerationMixin, FastSlowStoppingCriteria
from hf_reward_ext.fast_slow.decode.sampling import sample_judgments
from hf_reward_ext.fast_slow.judge.best_response import BestResponse, best_response
from hf_reward_ext.fast_slow.judge.gate import Gate
from hf_reward_ext.fast_slow.judge.judgment import Judgment, judgments_to_dataset, position_bias
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.model import FastSlowRewardModel
from hf_reward_ext.fast_slow.model_config import FastSlowRewardModelConfig
from hf_reward_ext.fast_slow.train.counterfactual import counterfactual_prefixes
from hf_reward_ext.fast_slow.train.reward_function import FastSlowRewardFunction
from hf_reward_ext.fast_slow.train.trainer import FastSlowTrainer
from hf_reward_ext.fast_slow.train.trainer_config import FastSlowConfig
from hf_reward_ext.fast_slow.train.verdict_reward import slow_verdict_reward

if TYPE_CHECKING:
    from hf_reward_ext.fast_slow.train.grpo_trainer import FastSlowGRPOTrainer

AutoConfig.register("fast_slow", FastSlowRewardModelConfig)
AutoModel.register(FastSlowRewardModelConfig, FastSlowRewardModel)
AutoModelForSequenceClassification.register(FastSlowRewardModelConfig, FastSlowRewardModel)


def __getattr__(name: str) -> Any:
    if name != "FastSlowGRPOTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hf_reward_ext.fast_slow.train.grpo_trainer import (
        FastSlowGRPOTrainer,
    )  # importing TRL's trainer takes half a second

    return FastSlowGRPOTrainer


__all__ = [
    "BestResponse",
    "DriftMonitor",
    "FastSlowConfig",
    "FastSlowGRPOTrainer",
    "FastSlowGenerationMixin",
    "FastSlowRewardFunction",
    "FastSlowRewardModel",
    "FastSlowRewardModelConfig",
    "FastSlowStoppingCriteria",
    "FastSlowTrainer",
    "Gate",
    "JudgePrompt",
    "JudgeTemplate",
    "Judgment",
    "best_response",
    "counterfactual_prefixes",
    "judgments_to_dataset",
    "position_bias",
    "sample_judgments",
    "slow_verdict_reward",
]
