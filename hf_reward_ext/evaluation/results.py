"""Results of evaluations: dictionaries of estimates with JSON, dataset, Markdown, plot and model-card forms."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from huggingface_hub import EvalResult

from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.evaluation.calibration import Calibration, bradley_terry_calibration
from hf_reward_ext.evaluation.model_card import eval_results
from hf_reward_ext.evaluation.plots import plot_curves, plot_estimates
from hf_reward_ext.evaluation.table import estimates_to_dataset, estimates_to_markdown

Curve = dict[int, Estimate]


class BenchmarkEvaluation(dict[str, Estimate]):
    """Estimates by name on the rows of a benchmark; base class."""

    def __init__(
        self,
        estimates: Mapping[str, Estimate],
        *,
        format: str,
        scorer: str,
        confidence: float,
        rows: Sequence[dict],
        num_unanswered: int = 0,
    ):
        super().__init__(estimates)
        self.format = format
        self.scorer = scorer
        self.confidence = confidence
        self.rows = list(rows)
        self.num_unanswered = num_unanswered

    def to_markdown(self) -> str:
        """Return a description and a table in percent."""
        missing = f", {self.num_unanswered} of them without an answer" if self.num_unanswered else ""
        what = (
            f"{self.scorer} on {len(self.rows)} {self.format} rows{missing}{self._settings()}; "
            f"{self.confidence:.0%} bootstrap intervals."
        )
        return estimates_to_markdown(self, what)

    def to_dict(self) -> dict:
        """Return the values as JSON values."""
        return {
            "format": self.format,
            "scorer": self.scorer,
            "num_rows": len(self.rows),
            "num_unanswered": self.num_unanswered,
            "confidence": self.confidence,
            "estimates": {name: estimate._asdict() for name, estimate in self.items()},
        }

    def to_dataset(self) -> Dataset:
        """Return one row per estimate: `name`, `value`, `lower`, `upper`."""
        return estimates_to_dataset(self)

    def rows_to_dataset(self) -> Dataset:
        """Return one row per row of the evaluated data, with scores and correctness."""
        return Dataset.from_list(self.rows)

    def plot(self, path: str | Path) -> None:
        """Write a bar for each estimate, with its interval. Requires matplotlib."""
        plot_estimates(self, path, title=f"{self.scorer} on {self.format}")

    def to_eval_results(
        self, dataset_name: str | None = None, dataset_type: str | None = None, dataset_split: str | None = None
    ) -> list[EvalResult]:
        """
        Return the model-card metadata, one entry per estimate; add it with [`add_to_model_card`].

        Args:
            dataset_name, dataset_type (`str`, *optional*): Title of the dataset, and name on the Hub. Default: those of
                the benchmark.
            dataset_split (`str`, *optional*): Name of the split.

        Raises:
            ValueError: For plain preference rows without a name.
        """
        return eval_results(self, self._benchmark(), self.confidence, dataset_name, dataset_type, dataset_split)

    def _benchmark(self) -> str:
        """Return the name of the benchmark, whose dataset is known."""
        return self.format

    def _settings(self) -> str:
        """Return further settings for the description."""
        return ""


class PreferenceEvaluation(BenchmarkEvaluation):
    """
    Accuracies by name with intervals; `"accuracy"` is the overall value.

    Args:
        estimates (`dict` from `str` to [`Estimate`]): Accuracies.
        format, scorer (`str`): Format of the rows, and name of the scorer.
        confidence (`float`): Confidence level of the intervals.
        rows (`list` of `dict`): Results of each row: `id`, `subset`, `correct` (`None` if a single row has no value),
            `margins` (chosen over rejected, flattened) and the scores of both sides (`None` for a judge of pairs).
        num_unanswered (`int`, *optional*, defaults to 0): Number of rows that were ignored, because a
            reward is missing.

    Example:
    ```python
    >>> result = evaluate_preferences(scorer, dataset, format="rewardbench")
    >>> print(result.to_markdown())
    >>> result.plot("accuracies.png")
    ```
    """

    def calibration(self, num_bins: int = 10) -> Calibration:
        """Return the calibration of the Bradley-Terry probability of the margins; see [`bradley_terry_calibration`]."""
        margins = [margin for row in self.rows for margin in row["margins"] if margin is not None]
        return bradley_terry_calibration(np.array(margins), num_bins=num_bins)

    def _benchmark(self) -> str:
        version_2 = self.format == "rewardbench" and any(len(row["margins"]) > 1 for row in self.rows)
        return "rewardbench-2" if version_2 else self.format


class BestOfNEvaluation(dict[str, Curve]):
    """
    Accuracy over k of each way to choose: `"best-of-n"`, `"pass@k"`, and with answers `"majority"` and `"weighted"`.

    Args:
        curves (`dict` from `str` to `dict` from `int` to [`Estimate`]): Curves by name.
        scorer (`str`): Name of the scorer.
        rewards, correct (`np.ndarray` of shape `(prompts, candidates)`): Reward of every candidate (NaN if
            missing), and 1 for correct candidates.
        confidence (`float`): Confidence level of the intervals.
        num_unanswered (`int`, *optional*, defaults to 0): Number of prompts that were ignored, because no candidate has
            a reward.
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
        """Return every point of every curve by a name such as `"best-of-n@4"`."""
        return {
            f"{name.removesuffix('@k')}@{k}": estimate for name, curve in self.items() for k, estimate in curve.items()
        }

    def to_dict(self) -> dict:
        """Return the values as JSON values."""
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
        """Return one row per point: `name`, `value`, `lower`, `upper`."""
        return estimates_to_dataset(self.estimates())

    def to_markdown(self) -> str:
        """Return a description and a table in percent."""
        prompts, candidates = self.correct.shape
        what = (
            f"{self.scorer} on {prompts} prompts with {candidates} candidates each; "
            f"{self.confidence:.0%} bootstrap intervals over prompts."
        )
        return estimates_to_markdown(self.estimates(), what)

    def plot(self, path: str | Path) -> None:
        """Write accuracy over k. Requires matplotlib."""
        plot_curves(self, path, title=self.scorer)

    def to_eval_results(
        self, dataset_name: str, dataset_type: str, dataset_split: str | None = None
    ) -> list[EvalResult]:
        """Return the model-card metadata, one entry per point; add it with [`add_to_model_card`]."""
        return eval_results(
            self.estimates(), "", self.confidence, dataset_name, dataset_type, dataset_split, "text-generation"
        )
