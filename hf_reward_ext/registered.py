"""All that transformers finds by name after `import hf_reward_ext`: the Auto classes and the pipeline "reward-bon"."""

from hf_reward_ext import best_of_n, elhsr, fast_slow, genarm, sla

__all__ = ["best_of_n", "elhsr", "fast_slow", "genarm", "sla"]
