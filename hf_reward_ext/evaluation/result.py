"""What an evaluation returns: a dict of estimates that shows itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from huggingface_hub import EvalResult

from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.evaluation.calibration import Calibration, bradley_terry_calibration
from hf_reward_ext.evaluation.metadata import eval_results
from hf_reward_ext.evaluation.plots import plot_estimates
from hf_reward_ext.evaluation.table import estimates_to_dataset, estimates_to_markdown


class PreferenceEvaluation(dict[str, Estimate]):
    """
    Accuracies by name, with their intervals; `"accuracy"` is the headline.

    Args:
        estimates (`dict` from `str` to [`Estimate`]): The accuracies.
        format, scorer (`str`): Whose rows, and what scored them.
        confidence (`float`): Of the intervals.
        rows (`list` of `dict`): Per row `id`, `subset`, `correct` (`None` where a row alone has no value), `margins`
            (chosen over rejected, one after another) and the scores of both sides (`None` for a judge of pairs).
        num_unanswered (`int`, *optional*, defaults to 0): Rows that do not count, because the scorer has no answer.

    Example:
    ```python
    >>> result = evaluate_preferences(scorer, dataset, format="rewardbench")
    >>> print(result.to_markdown())
    >>> result.plot("accuracies.png")
    ```
    """

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

    def to_dict(self) -> dict:
        """Plain numbers, fit for JSON."""
        return {
            "format": self.format,
            "scorer": self.scorer,
            "num_rows": len(self.rows),
            "num_unanswered": self.num_unanswered,
            "confidence": self.confidence,
            "estimates": {name: estimate._asdict() for name, estimate in self.items()},
        }

    def to_dataset(self) -> Dataset:
        """A line per estimate: `name`, `value`, `lower`, `upper`."""
        return estimates_to_dataset(self)

    def rows_to_dataset(self) -> Dataset:
        """A line per row of the evaluated data, with scores and whether it is right."""
        return Dataset.from_list(self.rows)

    def to_markdown(self) -> str:
        """A table in percent, with a line on what it is."""
        missing = f", {self.num_unanswered} of them without an answer" if self.num_unanswered else ""
        what = (
            f"{self.scorer} on {len(self.rows)} {self.format} rows{missing}; {self.confidence:.0%} bootstrap intervals."
        )
        return estimates_to_markdown(self, what)

    def plot(self, path: str | Path) -> None:
        """Writes a bar for each estimate, with its interval. Needs matplotlib."""
        plot_estimates(self, path, title=f"{self.scorer} on {self.format}")

    def calibration(self, num_bins: int = 10) -> Calibration:
        """How well the Bradley-Terry probability of the margins fits; see [`bradley_terry_calibration`]."""
        margins = [margin for row in self.rows for margin in row["margins"] if margin is not None]
        return bradley_terry_calibration(np.array(margins), num_bins=num_bins)

    def to_eval_results(
        self, dataset_name: str | None = None, dataset_type: str | None = None, dataset_split: str | None = None
    ) -> list[EvalResult]:
        """
        Model-card metadata, one entry per estimate; add it with [`add_to_model_card`].

        Args:
            dataset_name, dataset_type (`str`, *optional*): Title, and name on the Hub. Default: those of the benchmark.
            dataset_split (`str`, *optional*): Which split.

        Raises:
            ValueError: For plain preference rows without a name.
        """
        version_2 = self.format == "rewardbench" and any(len(row["margins"]) > 1 for row in self.rows)
        return eval_results(
            self,
            "rewardbench-2" if version_2 else self.format,
            self.confidence,
            dataset_name,
            dataset_type,
            dataset_split,
        )
