"""Scoring of all responses of all rows, in batches, with a progress bar."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers.utils.logging import tqdm

from hf_reward_ext.base.preference.validation import naming_row
from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow


class ScoredRow(NamedTuple):
    """
    A row with its scores; NaN for missing rewards.

    Args:
        row ([`PreferenceRow`]): Row of the benchmark.
        margins (`np.ndarray` of shape `(orders, chosen, rejected)`): Margins of chosen over rejected: reward
            differences (one order), or the log-odds of a judge in both orders.
        decisions (`np.ndarray` of shape `(chosen, rejected)`): Margins over both orders together.
        scores (`np.ndarray` of shape `(chosen + rejected,)`, *optional*): Rewards; `None` for a judge of pairs.
    """

    row: PreferenceRow
    margins: np.ndarray
    decisions: np.ndarray
    scores: np.ndarray | None

    @property
    def is_answered(self) -> bool:
        """`True` if no reward is missing."""
        return not np.isnan(self.margins).any()

    def wins(self) -> np.ndarray:
        """Return `(chosen, rejected)` with 1 if the chosen response is preferred; 0 for ties."""
        return (self.decisions > 0).astype(float)


def score_rows(
    rows: Sequence[PreferenceRow], scorer: Scorer | PairScorer, batch_size: int, show_progress: bool | None = None
) -> list[ScoredRow]:
    """
    Score all rows; responses of similar length share a batch.

    Args:
        rows (`list` of [`PreferenceRow`]): Rows to score.
        scorer ([`Scorer`] or [`PairScorer`]): Result of [`as_scorer`].
        batch_size (`int`): Number of responses or pairs per call.
        show_progress (`bool`, *optional*): Whether to show a progress bar. Default: for five batches or more.

    Raises:
        ValueError: Before any is scored, if a text is too long for the scorer; or if it returns another number of
            values, NaN or infinity.
    """
    if isinstance(scorer, PairScorer):
        return _judged(rows, scorer, batch_size, show_progress)
    groups = [[(row.prompt, response) for response in [*row.chosen, *row.rejected]] for row in rows]
    _check(groups, scorer)
    scores = _call(scorer, [item for group in groups for item in group], batch_size, show_progress)
    scored, start = [], 0
    for row in rows:
        end = start + len(row.chosen) + len(row.rejected)
        row_scores, start = scores[start:end], end
        margins = row_scores[: len(row.chosen), None] - row_scores[None, len(row.chosen) :]
        scored.append(ScoredRow(row, margins[None], margins, row_scores))
    return scored


def score_completions(
    prompts: Sequence, completions: Sequence[Sequence], scorer: Scorer, batch_size: int, show_progress: bool | None
) -> list[np.ndarray]:
    """Return the rewards `(completions,)` of each prompt, NaN for missing ones; arguments as for [`score_rows`]."""
    groups = [[(prompt, text) for text in group] for prompt, group in zip(prompts, completions, strict=True)]
    _check(groups, scorer)
    scores = _call(scorer, [item for group in groups for item in group], batch_size, show_progress)
    return np.split(scores, np.cumsum([len(group) for group in groups])[:-1])


def _judged(rows, scorer: PairScorer, batch_size: int, show_progress: bool | None) -> list[ScoredRow]:
    duels = [[(row.prompt, chosen, rejected) for chosen in row.chosen for rejected in row.rejected] for row in rows]
    _check(duels, scorer)
    odds = _call(scorer.compare, [duel for group in duels for duel in group], batch_size, show_progress, shape=(3,))
    scored, start = [], 0
    for row in rows:
        end = start + len(row.chosen) * len(row.rejected)
        row_odds = odds[start:end].T.reshape(3, len(row.chosen), len(row.rejected))
        scored.append(ScoredRow(row, row_odds[:2], row_odds[2], None))
        start = end
    return scored


def _check(groups: Sequence[Sequence[tuple]], scorer: Scorer | PairScorer) -> None:
    """Refuses texts that the scorer cannot read, before any is scored; the row is named."""
    for number, group in enumerate(groups):
        with naming_row(number, "evaluated"):
            scorer.check(*map(list, zip(*group, strict=True)))


def _call(
    function: Callable[..., Any],
    items: list[tuple],
    batch_size: int,
    show_progress: bool | None,
    shape: tuple[int, ...] = (),
) -> np.ndarray:
    """Return the values `(items, *shape)` of a function on columns of items; NaN for missing ones."""
    order = sorted(range(len(items)), key=lambda index: sum(len(str(part)) for part in items[index]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    hidden = len(batches) < 5 if show_progress is None else not show_progress
    values = np.full((len(items), *shape), np.nan)
    for indices in tqdm(batches, desc="scoring", disable=hidden):
        columns = map(list, zip(*(items[index] for index in indices), strict=True))
        values[indices] = np.array(function(*columns), dtype=float)  # `None` becomes NaN
    return values
