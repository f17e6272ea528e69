"""ELHSR: a linear reward head on the policy's own hidden states (arXiv 2505.12225)."""

from transformers import AutoConfig, AutoModel

from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig

AutoConfig.register("elhsr", ELHSRModelConfig)
AutoModel.register(ELHSRModelConfig, ELHSRModel)
