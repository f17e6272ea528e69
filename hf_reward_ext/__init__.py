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
    "hf_reward_ext.base.scoring.text": ("TextScorer",),
    "hf_reward_ext.base.scoring.weighted": ("WeightedReward",),
    "hf_reward_ext.best_of_n": ("BestOfNPipeline", "Pruning", "write_best_of_n"),
    "hf_reward_ext.callbacks": ("BestOfNCallback", "GuidedGenerationCallback"),
    "hf_reward_ext.checks": ("check_reward_model",),
    "hf_reward_ext.confidence": ("LogitsReward",),
    "hf_reward_ext.elhsr": (
        "ELHSRConfig",
        "ELHSRForSequenceClassification",
        "ELHSRModel",
        "ELHSRModelConfig",
        "ELHSRTrainer",
        "HiddenStateReward",
    ),
    "hf_reward_ext.evaluation": ("evaluate_best_of_n", "evaluate_preferences"),
    "hf_reward_ext.fast_slow": (
        "FastSlowConfig",
        "FastSlowGenerationMixin",
        "FastSlowGRPOTrainer",
        "FastSlowRewardModel",
        "FastSlowRewardModelConfig",
        "FastSlowStoppingCriteria",
        "FastSlowTrainer",
        "JudgeTemplate",
    ),
    "hf_reward_ext.genarm": (
        "GenARMConfig",
        "GenARMLogitsProcessor",
        "GenARMRewardModel",
        "GenARMRewardModelConfig",
        "GenARMTrainer",
        "GuidedCausalLM",
    ),
    "hf_reward_ext.hub": ("push_folder",),
    "hf_reward_ext.sla": (
        "RewardTransformer",
        "RewardTransformerConfig",
        "RewardTransformerForSequenceClassification",
        "SLAConfig",
        "SLALogitsProcessor",
        "SLATrainer",
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
    from hf_reward_ext.base.scoring.text import TextScorer
    from hf_reward_ext.base.scoring.weighted import WeightedReward
    from hf_reward_ext.best_of_n import BestOfNPipeline, Pruning, write_best_of_n
    from hf_reward_ext.callbacks import BestOfNCallback, GuidedGenerationCallback
    from hf_reward_ext.checks import check_reward_model
    from hf_reward_ext.confidence import LogitsReward
    from hf_reward_ext.elhsr import (
        ELHSRConfig,
        ELHSRForSequenceClassification,
        ELHSRModel,
        ELHSRModelConfig,
        ELHSRTrainer,
        HiddenStateReward,
    )
    from hf_reward_ext.evaluation import evaluate_best_of_n, evaluate_preferences
    from hf_reward_ext.fast_slow import (
        FastSlowConfig,
        FastSlowGenerationMixin,
        FastSlowGRPOTrainer,
        FastSlowRewardModel,
        FastSlowRewardModelConfig,
        FastSlowStoppingCriteria,
        FastSlowTrainer,
        JudgeTemplate,
    )
    from hf_reward_ext.genarm import (
        GenARMConfig,
        GenARMLogitsProcessor,
        GenARMRewardModel,
        GenARMRewardModelConfig,
        GenARMTrainer,
        GuidedCausalLM,
    )
    from hf_reward_ext.hub import push_folder
    from hf_reward_ext.sla import (
        RewardTransformer,
        RewardTransformerConfig,
        RewardTransformerForSequenceClassification,
        SLAConfig,
        SLALogitsProcessor,
        SLATrainer,
        sla_generate,
    )

__all__ = [
    "BestOfNCallback",
    "BestOfNPipeline",
    "ELHSRConfig",
    "ELHSRForSequenceClassification",
    "ELHSRModel",
    "ELHSRModelConfig",
    "ELHSRTrainer",
    "FastSlowConfig",
    "FastSlowGRPOTrainer",
    "FastSlowGenerationMixin",
    "FastSlowRewardModel",
    "FastSlowRewardModelConfig",
    "FastSlowStoppingCriteria",
    "FastSlowTrainer",
    "GenARMConfig",
    "GenARMLogitsProcessor",
    "GenARMRewardModel",
    "GenARMRewardModelConfig",
    "GenARMTrainer",
    "GuidedCausalLM",
    "GuidedGenerationCallback",
    "HiddenStateReward",
    "JudgeTemplate",
    "LogitsReward",
    "Pruning",
    "RewardTransformer",
    "RewardTransformerConfig",
    "RewardTransformerForSequenceClassification",
    "SLAConfig",
    "SLALogitsProcessor",
    "SLATrainer",
    "SharedPrefill",
    "TextScorer",
    "WeightedReward",
    "check_reward_model",
    "evaluate_best_of_n",
    "evaluate_preferences",
    "merge_adapters",
    "merge_models",
    "push_folder",
    "sla_generate",
    "write_best_of_n",
]


def _is_command() -> bool:
    """Whether this process is the command line, which answers `--help` and mistakes before torch is loaded."""
    given = sys.orig_argv
    module = given[given.index("-m") + 1] if "-m" in given[:-1] else ""
    return Path(sys.argv[0] if sys.argv else "").stem == "hf-reward-ext" or module.split(".")[0] == __name__


if not _is_command():  # a command does it once its options are read
    importlib.import_module("hf_reward_ext.registered")
