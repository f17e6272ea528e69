"""Reward models that act at generation time, on transformers, TRL and PEFT."""

__version__ = "0.1.0"
