"""Reward models that act at generation time, on transformers, TRL and PEFT."""

import hf_reward_ext.elhsr  # noqa: F401  (registers)

__version__ = "0.1.0"
