"""Readers of rewards during generation: of an ELHSR head, and of training-free measures."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from hf_reward_ext.base.lm.reward_reader import RewardReader
from hf_reward_ext.base.plugins import find_plugin
from hf_reward_ext.base.scoring.loading import has_file
from hf_reward_ext.confidence.decoding import LogitsReward
from hf_reward_ext.confidence.measures import Measure
from hf_reward_ext.confidence.names import as_measure
from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig

ReadReward = ELHSRModel | Measure


def as_read_reward(reward_model: Any) -> ReadReward | None:
    """Return the head or training-free measure for a reward or its name; `None` if it scores finished texts."""
    if isinstance(reward_model, ELHSRModel):
        return reward_model
    measure = as_measure(reward_model)
    if measure is not None:
        return measure
    if isinstance(reward_model, str) and find_plugin("rewards", reward_model) is not None:
        return None
    if isinstance(reward_model, str | Path) and has_file(str(reward_model), "config.json"):
        if isinstance(AutoConfig.from_pretrained(reward_model), ELHSRModelConfig):
            return ELHSRModel.from_pretrained(reward_model)  # pyright: ignore[reportReturnType]
    return None


def open_reader(reward: ReadReward, policy: Any) -> RewardReader:
    """Return the reader of a reward during generation."""
    return HiddenStateReward(policy, reward) if isinstance(reward, ELHSRModel) else LogitsReward(policy, reward)
