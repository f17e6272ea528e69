"""Training-free rewards from the policy's probabilities, during generation or for finished texts."""

from hf_reward_ext.confidence.decoding import LogitsReward
from hf_reward_ext.confidence.measures import (
    GroupConfidence,
    Length,
    MeanLogProbability,
    Measure,
    NegativeEntropy,
    SelfCertainty,
)
from hf_reward_ext.confidence.model import LogitsRewardModel

__all__ = [
    "GroupConfidence",
    "Length",
    "LogitsReward",
    "LogitsRewardModel",
    "MeanLogProbability",
    "Measure",
    "NegativeEntropy",
    "SelfCertainty",
]
