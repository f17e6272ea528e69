"""GenARM: an autoregressive reward model guides a frozen policy token by token (arXiv 2410.08193)."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hf_reward_ext.genarm.conditioned_folder import load_conditioned_guide
from hf_reward_ext.genarm.conditioning import fold_weights, objective_weights
from hf_reward_ext.genarm.decoding import GenARMLogitsProcessor
from hf_reward_ext.genarm.guided import GuidedCausalLM
from hf_reward_ext.genarm.model import GenARMRewardModel
from hf_reward_ext.genarm.model_config import GenARMRewardModelConfig
from hf_reward_ext.genarm.speculative import SpeculativeOutput, speculative_generate
from hf_reward_ext.genarm.trace import GuidanceTrace, trace_guidance
from hf_reward_ext.genarm.trainer import GenARMTrainer
from hf_reward_ext.genarm.trainer_config import GenARMConfig
from hf_reward_ext.genarm.vllm_settings import vllm_arguments

AutoConfig.register("genarm", GenARMRewardModelConfig)
AutoModel.register(GenARMRewardModelConfig, GenARMRewardModel)
AutoModelForSequenceClassification.register(GenARMRewardModelConfig, GenARMRewardModel)

__all__ = [
    "GenARMConfig",
    "GenARMLogitsProcessor",
    "GenARMRewardModel",
    "GenARMRewardModelConfig",
    "GenARMTrainer",
    "GuidanceTrace",
    "GuidedCausalLM",
    "SpeculativeOutput",
    "fold_weights",
    "load_conditioned_guide",
    "objective_weights",
    "speculative_generate",
    "trace_guidance",
    "vllm_arguments",
]
