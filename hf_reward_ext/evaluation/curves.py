"""Curves of accuracy over k, in every form."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset
from huggingface_hub import EvalResult

from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.evaluation.metadata import eval_results
from hf_reward_ext.evaluation.plots import plot_curves
from hf_reward_ext.evaluation.table import estimates_to_dataset, estimates_to_markdown

Curve = dict[int, Estimate]


class BestOfNEvaluation(dict[str, Curve]):
    """
    Accuracy over k of each way to choose: `"best-of-n"`, `"pass@k"`, and with answers `"majority"` and `"weighted"`.

    Args:
        curves (`dict` from `str` to `dict` from `int` to [`Estimate`]): The curves.
        scorer (`str`): What scored the candidates.
        rewards, correct (`np.ndarray` of shape `(prompts, candidates)`): Reward of every candidate (NaN: no answer),
            and 1 for the correct ones.
        confidence (`float`): Confidence level of the intervals.
        num_unanswered (`int`, *optional*, defaults to 0): Prompts left out, because the scorer answered none of their
            candidates.
    """

    def __init__(
        self,
        curves: Mapping[str, Curve],
        *,
        scorer: str,
        rewards: np.ndarray,
        correct: np.ndarray,
        confidence: float,
        num_unanswered: int = 0,
    ):
        super().__init__(curves)
        self.scorer = scorer
        self.rewards = rewards
        self.correct = correct
        self.confidence = confidence
        self.num_unanswered = num_unanswered

    def estimates(self) -> dict[str, Estimate]:
        """Every point of every curve by a name such as `"best-of-n@4"`."""
        return {
            f"{name}@{k}".replace("@k@", "@"): estimate for name, curve in self.items() for k, estimate in curve.items()
        }

    def to_dict(self) -> dict:
        """Plain numbers, fit for JSON."""
        prompts, candidates = self.correct.shape
        return {
            "scorer": self.scorer,
            "num_prompts": prompts,
            "num_candidates": candidates,
            "num_unanswered": self.num_unanswered,
            "confidence": self.confidence,
            "estimates": {name: estimate._asdict() for name, estimate in self.estimates().items()},
        }

    def to_dataset(self) -> Dataset:
        """A line per point: `name`, `value`, `lower`, `upper`."""
        return estimates_to_dataset(self.estimates())

    def to_markdown(self) -> str:
        """A table in percent, with a line on what it is."""
        prompts, candidates = self.correct.shape
        what = (
            f"{self.scorer} on {prompts} prompts with {candidates} candidates each; "
            f"{self.confidence:.0%} bootstrap intervals over prompts."
        )
        return estimates_to_markdown(self.estimates(), what)

    def plot(self, path: str | Path) -> None:
        """Writes accuracy over k. Needs matplotlib."""
        plot_curves(self, path, title=self.scorer)

    def to_eval_results(
        self, dataset_name: str, dataset_type: str, dataset_split: str | None = None
    ) -> list[EvalResult]:
        """Model-card metadata, one entry per point; add it with [`add_to_model_card`]."""
        return eval_results(
            self.estimates(), "", self.confidence, dataset_name, dataset_type, dataset_split, "text-generation"
        )
