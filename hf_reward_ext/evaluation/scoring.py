"""Scores every response of every row, in batches, with a progress bar."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow
from hf_reward_ext.evaluation.pair_scorer import PairScorer, as_numbers


class ScoredRow(NamedTuple):
    """
    A row and what the scorer says.

    Args:
        row ([`PreferenceRow`]): As read.
        margins (`np.ndarray` of shape `(orders, chosen, rejected)`): Chosen over rejected: reward differences, or the
            log-odds of a judge in both orders. Rewards know no order and have one.
        decisions (`np.ndarray` of shape `(chosen, rejected)`): The margins that decide where both orders count as one.
        scores (`np.ndarray` of shape `(chosen + rejected,)`, *optional*): Rewards; `None` for a judge of pairs.
    """

    row: PreferenceRow
    margins: np.ndarray
    decisions: np.ndarray
    scores: np.ndarray | None

    def wins(self) -> np.ndarray:
        """`(chosen, rejected)`: 1 where the chosen response is preferred; a tie is 0."""
        return (self.decisions > 0).astype(float)


def score_rows(
    rows: Sequence[PreferenceRow], scorer: Callable | PairScorer, batch_size: int, show_progress: bool | None = None
) -> list[ScoredRow]:
    """
    Scores all rows; responses of like length share a batch.

    Args:
        rows (`list` of [`PreferenceRow`]): What to score.
        scorer (`callable` or [`PairScorer`]): Of [`as_scorer`].
        batch_size (`int`): Responses or pairs per call.
        show_progress (`bool`, *optional*): Default: a bar for five batches or more.

    Raises:
        ValueError: If the scorer returns another number of values, NaN or infinity.
    """
    if isinstance(scorer, PairScorer):
        return _judged(rows, scorer, batch_size, show_progress)
    items = [(row.prompt, response) for row in rows for response in [*row.chosen, *row.rejected]]
    scores = _call(scorer, items, batch_size, show_progress)
    scored, start = [], 0
    for row in rows:
        end = start + len(row.chosen) + len(row.rejected)
        own, start = scores[start:end], end
        margins = own[: len(row.chosen), None] - own[None, len(row.chosen) :]
        scored.append(ScoredRow(row, margins[None], margins, own))
    return scored


def score_candidates(
    prompts: Sequence, completions: Sequence[Sequence], scorer: Callable, batch_size: int, show_progress=None
) -> np.ndarray:
    """Rewards `(prompts, candidates)` of a callable on prompts and completions; arguments as for [`score_rows`]."""
    items = [(prompt, own) for prompt, group in zip(prompts, completions, strict=True) for own in group]
    return _call(scorer, items, batch_size, show_progress).reshape(len(prompts), -1)


def _judged(rows, scorer: PairScorer, batch_size: int, show_progress: bool | None) -> list[ScoredRow]:
    duels = [(row.prompt, one, other) for row in rows for one in row.chosen for other in row.rejected]
    odds = _call(scorer.compare, duels, batch_size, show_progress, shape=(3,))
    scored, start = [], 0
    for row in rows:
        end = start + len(row.chosen) * len(row.rejected)
        own = odds[start:end].T.reshape(3, len(row.chosen), len(row.rejected))
        scored.append(ScoredRow(row, own[:2], own[2], None))
        start = end
    return scored


def _call(
    function: Callable, items: list[tuple], batch_size: int, show_progress: bool | None, shape: tuple[int, ...] = ()
) -> np.ndarray:
    """Values `(items, *shape)` of a function on columns of items."""
    order = sorted(range(len(items)), key=lambda place: sum(len(str(part)) for part in items[place]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    hidden = len(batches) < 5 if show_progress is None else not show_progress
    values = np.full((len(items), *shape), np.nan)
    for places in tqdm(batches, desc="scoring", disable=hidden):
        found = as_numbers(function(*map(list, zip(*(items[place] for place in places), strict=True))))
        if found.shape != (len(places), *shape):
            raise ValueError(
                f"The scorer returned shape {found.shape} for {len(places)} responses, but it needs one number for "
                "each. Return a list of that length."
            )
        values[places] = found
    broken = ~np.isfinite(values).reshape(len(items), -1).all(1)
    if broken.any():
        prompt = str(items[int(broken.argmax())][0])[:80]
        raise ValueError(
            f"The scorer returned NaN or infinity for {int(broken.sum())} of {len(values)} responses, the first to the "
            f"prompt {prompt!r}, so they cannot be compared. Run it in bfloat16 or float32."
        )
    return values
