"""Ties subset of RewardBench 2: several correct answers, which should have similar scores above the wrong ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hf_reward_ext.base.stats.intervals import Estimate, mean_with_interval
from hf_reward_ext.evaluation.accuracy import share_of
from hf_reward_ext.evaluation.scoring import ScoredRow

TIES = "Ties"


class TiesParts(NamedTuple):
    """Parts of the score of one prompt; each is 0 or 1, `margin` is in (-1, 1)."""

    tied: float
    reference: float
    preferred: float
    preferred_hard: float
    margin: float

    def score(self) -> float:
        """Return the score with the published weights."""
        return 0.3 * (self.tied + self.reference) + 0.2 * (self.preferred + self.preferred_hard) + 0.01 * self.margin


def ties_parts(tied: ScoredRow, reference: ScoredRow) -> TiesParts:
    r"""
    Return the parts of the score of one prompt, from its row with several correct answers and its row with one.

    With the spread $s$ of the correct answers' rewards and the gaps $g$ (worst correct minus best wrong) of both rows:
    $g_\text{tied} > 0$; $g_\text{ref} > 0$; $g_\text{tied} > s$; $\min(g_\text{ref}, g_\text{tied}) > s$; and
    $\tanh(\min(g_\text{ref}, g_\text{tied}) / s - 1)$, 0 where it is 0/0.

    Rule of [RewardBench 2](https://huggingface.co/papers/2506.01937), as its code weighs it: 0.3, 0.3, 0.2, 0.2, 0.01.
    """
    (gap, spread), (reference_gap, _) = _gap_and_spread(tied), _gap_and_spread(reference)
    smaller = min(gap, reference_gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.tanh(np.float64(smaller) / np.float64(spread) - 1)
    return TiesParts(
        float(gap > 0),
        float(reference_gap > 0),
        float(gap > spread),
        float(smaller > spread),
        float(np.nan_to_num(margin, nan=0.0)),
    )


def ties_per_prompt(scored: Sequence[ScoredRow]) -> np.ndarray:
    """Return the score of each prompt of the subset, whose mean (at most 1.01) is the score of the subset."""
    return np.array([ties_parts(*rows).score() for rows in _prompts(scored)])


def ties_estimates(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    """Return `Ties` and its parts, with intervals over prompts."""
    parts = [ties_parts(*rows) for rows in _prompts(scored)]
    named = {
        "Ties: all right above all wrong": [one.tied for one in parts],
        "Ties: one right above all wrong": [one.reference for one in parts],
        "Ties: gap above spread": [one.preferred for one in parts],
        "Ties: both gaps above spread": [one.preferred_hard for one in parts],
    }
    whole = mean_with_interval(np.array([one.score() for one in parts]), **interval_kwargs)
    return {TIES: whole, **{name: share_of(values, **interval_kwargs) for name, values in named.items()}}


def _prompts(scored: Sequence[ScoredRow]) -> list[tuple[ScoredRow, ScoredRow]]:
    """Return the two rows of each prompt; `id` is `tied:<number>` or `ref:<number>`."""
    rows: dict[str, dict[str, ScoredRow]] = {}
    for one in scored:
        kind, _, number = one.row.name.partition(":")
        if one.scores is None:
            raise ValueError(
                "The ties of RewardBench 2 must be scored with rewards, got a judge of pairs. Leave the subset out, or "
                "judge with pointwise verdicts."
            )
        if kind not in ("tied", "ref") or not number or (kind == "tied" and len(one.row.chosen) < 2):
            raise ValueError(
                f"A row of the ties has `id={one.row.name!r}` and {len(one.row.chosen)} chosen responses, but it is "
                "'tied:<number>' with two or more, or 'ref:<number>'. Fix the row."
            )
        rows.setdefault(number, {})[kind] = one
    alone = [f"{kind}:{number}" for number, own in rows.items() if len(own) < 2 for kind in own]
    if alone:
        raise ValueError(
            f"The rows {alone[:5]} are single, but a prompt of the ties is scored on its 'tied' and its 'ref' row "
            "together. Keep both when you take a part of the data."
        )
    return [(own["tied"], own["ref"]) for own in rows.values()]


def _gap_and_spread(one: ScoredRow) -> tuple[float, float]:
    if one.scores is None:
        raise ValueError("Ties need rewards. Judge with pointwise verdicts.")
    chosen, rejected = one.scores[: len(one.row.chosen)], one.scores[len(one.row.chosen) :]
    return float(chosen.min() - rejected.max()), float(chosen.max() - chosen.min())
