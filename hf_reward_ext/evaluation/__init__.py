"""How good a reward is: best-of-N curves, votes, intervals."""

from hf_reward_ext.evaluation.best_of_n import best_of_n_curve, majority_curve, pass_at_k
from hf_reward_ext.evaluation.intervals import Estimate, mean_with_interval

__all__ = ["Estimate", "best_of_n_curve", "majority_curve", "mean_with_interval", "pass_at_k"]
