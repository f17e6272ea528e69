"""GenARM: an autoregressive reward model guides a frozen policy token by token (arXiv 2410.08193)."""

from hf_reward_ext.genarm.decoding import GenARMLogitsProcessor
from hf_reward_ext.genarm.guided import GuidedCausalLM

__all__ = ["GenARMLogitsProcessor", "GuidedCausalLM"]
