"""Reward models that act at generation time, on transformers, TRL and PEFT."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names by the module that they come from; a module is loaded when one of its names is first used.
_MODULES = {
    "hf_reward_ext.base.lm.prefill": ("SharedPrefill",),
    "hf_reward_ext.base.saving.adapter_sum": ("merge_adapters",),
    "hf_reward_ext.base.saving.merging": ("merge_models",),
    "hf_reward_ext.base.scoring.combine": ("FittedCombination", "max_rank", "min_max"),
    "hf_reward_ext.base.scoring.text": ("TextScorer",),
    "hf_reward_ext.base.scoring.weighted": ("WeightedReward",),
    "hf_reward_ext.best_of_n": (
        "BestOfNPipeline",
        "Pruning",
        "ResumableWriter",
        "preference_rows",
        "sft_rows",
        "warm_up_threshold",
        "write_best_of_n",
    ),
    "hf_reward_ext.callbacks": ("BestOfNCallback", "GuidedGenerationCallback"),
    "hf_reward_ext.checks": ("Finding", "RewardModelReport", "check_reward_model"),
    "hf_reward_ext.confidence": (
        "GroupConfidence",
        "Length",
        "LogitsReward",
        "LogitsRewardModel",
        "MeanLogProbability",
        "Measure",
        "NegativeEntropy",
        "SelfCertainty",
    ),
    "hf_reward_ext.elhsr": (
        "ELHSRConfig",
        "ELHSRForSequenceClassification",
        "ELHSRModel",
        "ELHSRModelConfig",
        "ELHSRTrainer",
        "HiddenStateReward",
    ),
    "hf_reward_ext.evaluation": (
        "BestOfNEvaluation",
        "Calibration",
        "Estimate",
        "PairScorer",
        "PreferenceEvaluation",
        "add_to_model_card",
        "best_of_n_curve",
        "bradley_terry_calibration",
        "composite_with_interval",
        "evaluate_best_of_n",
        "evaluate_preferences",
        "majority_curve",
        "mean_with_interval",
        "pass_at_k",
        "share_with_interval",
    ),
    "hf_reward_ext.fast_slow": (
        "BestResponse",
        "DriftMonitor",
        "FastSlowConfig",
        "FastSlowGenerationMixin",
        "FastSlowGRPOTrainer",
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
    ),
    "hf_reward_ext.genarm": (
        "GenARMConfig",
        "GenARMLogitsProcessor",
        "GenARMRewardModel",
        "GenARMRewardModelConfig",
        "GenARMTrainer",
        "GuidanceTrace",
        "GuidedCausalLM",
        "trace_guidance",
    ),
    "hf_reward_ext.hub": (
        "GenARMCustomGenerate",
        "SLACustomGenerate",
        "generate_guided",
        "generate_look_ahead",
        "push_folder",
    ),
    "hf_reward_ext.sla": (
        "ConfirmedChunk",
        "LookAheadSearch",
        "RewardChannel",
        "RewardTransformer",
        "RewardTransformerConfig",
        "RewardTransformerForSequenceClassification",
        "SearchSettings",
        "SLAConfig",
        "SLALogitsProcessor",
        "SLAOutput",
        "SLATrainer",
        "autrc",
        "sla_generate",
    ),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if f"{__name__}.{name}" in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from hf_reward_ext.base.lm.prefill import SharedPrefill
    from hf_reward_ext.base.saving.adapter_sum import merge_adapters
    from hf_reward_ext.base.saving.merging import merge_models
    from hf_reward_ext.base.scoring.combine import FittedCombination, max_rank, min_max
    from hf_reward_ext.base.scoring.text import TextScorer
    from hf_reward_ext.base.scoring.weighted import WeightedReward
    from hf_reward_ext.best_of_n import (
        BestOfNPipeline,
        Pruning,
        ResumableWriter,
        preference_rows,
        sft_rows,
        warm_up_threshold,
        write_best_of_n,
    )
    from hf_reward_ext.callbacks import BestOfNCallback, GuidedGenerationCallback
    from hf_reward_ext.checks import Finding, RewardModelReport, check_reward_model
    from hf_reward_ext.confidence import (
        GroupConfidence,
        Length,
        LogitsReward,
        LogitsRewardModel,
        MeanLogProbability,
        Measure,
        NegativeEntropy,
        SelfCertainty,
    )
    from hf_reward_ext.elhsr import (
        ELHSRConfig,
        ELHSRForSequenceClassification,
        ELHSRModel,
        ELHSRModelConfig,
        ELHSRTrainer,
        HiddenStateReward,
    )
    from hf_reward_ext.evaluation import (
        BestOfNEvaluation,
        Calibration,
        Estimate,
        PairScorer,
        PreferenceEvaluation,
        add_to_model_card,
        best_of_n_curve,
        bradley_terry_calibration,
        composite_with_interval,
        evaluate_best_of_n,
        evaluate_preferences,
        majority_curve,
        mean_with_interval,
        pass_at_k,
        share_with_interval,
    )
    from hf_reward_ext.fast_slow import (
        BestResponse,
        DriftMonitor,
        FastSlowConfig,
        FastSlowGenerationMixin,
        FastSlowGRPOTrainer,
        FastSlowRewardFunction,
        FastSlowRewardModel,
        FastSlowRewardModelConfig,
        FastSlowStoppingCriteria,
        FastSlowTrainer,
        Gate,
        JudgePrompt,
        JudgeTemplate,
        Judgment,
        best_response,
        counterfactual_prefixes,
        judgments_to_dataset,
        position_bias,
        sample_judgments,
        slow_verdict_reward,
    )
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
    from hf_reward_ext.hub import (
        GenARMCustomGenerate,
        SLACustomGenerate,
        generate_guided,
        generate_look_ahead,
        push_folder,
    )
    from hf_reward_ext.sla import (
        ConfirmedChunk,
        LookAheadSearch,
        RewardChannel,
        RewardTransformer,
        RewardTransformerConfig,
        RewardTransformerForSequenceClassification,
        SearchSettings,
        SLAConfig,
        SLALogitsProcessor,
        SLAOutput,
        SLATrainer,
        autrc,
        sla_generate,
    )

__all__ = [
    "BestOfNCallback",
    "BestOfNEvaluation",
    "BestOfNPipeline",
    "BestResponse",
    "Calibration",
    "ConfirmedChunk",
    "DriftMonitor",
    "ELHSRConfig",
    "ELHSRForSequenceClassification",
    "ELHSRModel",
    "ELHSRModelConfig",
    "ELHSRTrainer",
    "Estimate",
    "FastSlowConfig",
    "FastSlowGRPOTrainer",
    "FastSlowGenerationMixin",
    "FastSlowRewardFunction",
    "FastSlowRewardModel",
    "FastSlowRewardModelConfig",
    "FastSlowStoppingCriteria",
    "FastSlowTrainer",
    "Finding",
    "FittedCombination",
    "Gate",
    "GenARMConfig",
    "GenARMCustomGenerate",
    "GenARMLogitsProcessor",
    "GenARMRewardModel",
    "GenARMRewardModelConfig",
    "GenARMTrainer",
    "GroupConfidence",
    "GuidanceTrace",
    "GuidedCausalLM",
    "GuidedGenerationCallback",
    "HiddenStateReward",
    "JudgePrompt",
    "JudgeTemplate",
    "Judgment",
    "Length",
    "LogitsReward",
    "LogitsRewardModel",
    "LookAheadSearch",
    "MeanLogProbability",
    "Measure",
    "NegativeEntropy",
    "PairScorer",
    "PreferenceEvaluation",
    "Pruning",
    "ResumableWriter",
    "RewardChannel",
    "RewardModelReport",
    "RewardTransformer",
    "RewardTransformerConfig",
    "RewardTransformerForSequenceClassification",
    "SLAConfig",
    "SLACustomGenerate",
    "SLALogitsProcessor",
    "SLAOutput",
    "SLATrainer",
    "SearchSettings",
    "SelfCertainty",
    "SharedPrefill",
    "TextScorer",
    "WeightedReward",
    "add_to_model_card",
    "autrc",
    "best_of_n_curve",
    "best_response",
    "bradley_terry_calibration",
    "check_reward_model",
    "composite_with_interval",
    "counterfactual_prefixes",
    "evaluate_best_of_n",
    "evaluate_preferences",
    "generate_guided",
    "generate_look_ahead",
    "judgments_to_dataset",
    "majority_curve",
    "max_rank",
    "mean_with_interval",
    "merge_adapters",
    "merge_models",
    "min_max",
    "pass_at_k",
    "position_bias",
    "preference_rows",
    "push_folder",
    "sample_judgments",
    "sft_rows",
    "share_with_interval",
    "sla_generate",
    "slow_verdict_reward",
    "trace_guidance",
    "warm_up_threshold",
    "write_best_of_n",
]


def _is_command() -> bool:
    """Whether this process is the command line, which answers `--help` and mistakes before torch is loaded."""
    given = sys.orig_argv
    module = given[given.index("-m") + 1] if "-m" in given[:-1] else ""
    return Path(sys.argv[0] if sys.argv else "").stem == "hf-reward-ext" or module.split(".")[0] == __name__


if not _is_command():  # a command does it once its options are read
    importlib.import_module("hf_reward_ext.registered")
