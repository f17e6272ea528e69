"""Evaluation of rewards: pair accuracy on benchmarks, best-of-N curves, votes, calibration, intervals."""

from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.stats.intervals import (
    Estimate,
    composite_with_interval,
    mean_with_interval,
    share_with_interval,
)
from hf_reward_ext.evaluation.calibration import Calibration, bradley_terry_calibration
from hf_reward_ext.evaluation.candidates import evaluate_best_of_n
from hf_reward_ext.evaluation.curves import best_of_n_curve, majority_curve, pass_at_k
from hf_reward_ext.evaluation.evaluate import evaluate_preferences
from hf_reward_ext.evaluation.model_card import add_to_model_card
from hf_reward_ext.evaluation.results import BestOfNEvaluation, PreferenceEvaluation
from hf_reward_ext.evaluation.steps import StepEvaluation, evaluate_steps

__all__ = [
    "BestOfNEvaluation",
    "Calibration",
    "Estimate",
    "PairScorer",
    "PreferenceEvaluation",
    "StepEvaluation",
    "add_to_model_card",
    "best_of_n_curve",
    "bradley_terry_calibration",
    "composite_with_interval",
    "evaluate_best_of_n",
    "evaluate_preferences",
    "evaluate_steps",
    "majority_curve",
    "mean_with_interval",
    "pass_at_k",
    "share_with_interval",
]
