"""ELHSR: a linear reward head on the hidden states of the policy (arXiv 2505.12225)."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.final_answer import write_answer
from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig
from hf_reward_ext.elhsr.prefix_calibration import PrefixCalibration
from hf_reward_ext.elhsr.stopping import HiddenStateStoppingCriteria
from hf_reward_ext.elhsr.text_classifier import ELHSRForSequenceClassification
from hf_reward_ext.elhsr.trainer import ELHSRTrainer
from hf_reward_ext.elhsr.trainer_config import ELHSRConfig

AutoConfig.register("elhsr", ELHSRModelConfig)
AutoModel.register(ELHSRModelConfig, ELHSRModel)
AutoModelForSequenceClassification.register(ELHSRModelConfig, ELHSRForSequenceClassification)

__all__ = [
    "ELHSRConfig",
    "ELHSRForSequenceClassification",
    "ELHSRModel",
    "ELHSRModelConfig",
    "ELHSRTrainer",
    "HiddenStateReward",
    "HiddenStateStoppingCriteria",
    "PrefixCalibration",
    "write_answer",
]
