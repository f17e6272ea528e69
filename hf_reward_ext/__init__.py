"""Reward models that act at generation time, on transformers, TRL and PEFT."""

from hf_reward_ext.base.combination import FittedCombination, max_rank, min_max
from hf_reward_ext.base.prefill import SharedPrefill
from hf_reward_ext.base.text_scorer import TextScorer
from hf_reward_ext.elhsr import (
    BestOfNPipeline,
    ELHSRConfig,
    ELHSRModel,
    ELHSRModelConfig,
    ELHSRTrainer,
    HiddenStateReward,
    Pruning,
)
from hf_reward_ext.evaluation import Estimate, best_of_n_curve, majority_curve, mean_with_interval, pass_at_k
from hf_reward_ext.genarm import (
    GenARMConfig,
    GenARMLogitsProcessor,
    GenARMRewardModel,
    GenARMRewardModelConfig,
    GenARMTrainer,
    GuidanceTrace,
    GuidedCausalLM,
    trace_guidance,
)

__version__ = "0.1.0"

__all__ = [
    "BestOfNPipeline",
    "ELHSRConfig",
    "ELHSRModel",
    "ELHSRModelConfig",
    "ELHSRTrainer",
    "Estimate",
    "FittedCombination",
    "GenARMConfig",
    "GenARMLogitsProcessor",
    "GenARMRewardModel",
    "GenARMRewardModelConfig",
    "GenARMTrainer",
    "GuidanceTrace",
    "GuidedCausalLM",
    "HiddenStateReward",
    "Pruning",
    "SharedPrefill",
    "TextScorer",
    "best_of_n_curve",
    "majority_curve",
    "max_rank",
    "mean_with_interval",
    "min_max",
    "pass_at_k",
    "trace_guidance",
]
