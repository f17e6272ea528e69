"""Judgments of pairs and responses, with confidences and costs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from datasets import Dataset

from hf_reward_ext.fast_slow.judge.gate import Pairing


@dataclass(frozen=True)
class Judgment:
    """
    Judgment of one pair or response.

    Args:
        probability (`float`): Probability that response a is better than b, or that a single response is good.
        mode (`str`): Path of the decision, `"fast"` or `"slow"`.
        intuition, distribution (`float`): Confidences, in [0, 1]; intuition is NaN if it is undefined.
        num_tokens (`int`): Number of generated tokens; a fast verdict counts one per row.
        text (`str`): First written judgment, or the first verdict of a fast decision.
        score (`float`): Log-odds of a over b in nats, or the score of a single response in nats; the difference of two
            scores is a log-odds.
        fast_probability (`float`): Probability by the fast path alone.
        mass (`float`): Probability that the first token is a verdict at all; the minimum over two rows.
        consistent (`bool`): Whether both orders prefer the same response; `True` with one order.
        parsed (`bool`): Whether every written judgment has a final verdict. Rows without one use their fast verdict.
        first_verdicts (`list[str]`): First verdict of each row.
        final_verdicts (`list[list[str | None]]`): Final verdict of each row and vote; fast rows are empty.
        fast_scores (`list[float]`): Raw score of each row, before the temperature.
        vote_scores (`list[list[float | None]]`): Raw score of the final verdict of each row and vote.
        texts (`list[list[str]]`): Written judgments of each row.
        row_tokens (`list[int]`): Number of tokens of each row.
        is_cut (`bool`): Whether a written judgment reached `max_new_tokens`, or the end of the context, before it was
            complete.
    """

    probability: float
    mode: Literal["fast", "slow"]
    intuition: float
    distribution: float
    num_tokens: int
    text: str
    score: float
    fast_probability: float
    mass: float
    consistent: bool
    parsed: bool
    first_verdicts: list[str]
    final_verdicts: list[list[str | None]]
    fast_scores: list[float]
    vote_scores: list[list[float | None]]
    texts: list[list[str]]
    row_tokens: list[int]
    is_cut: bool = False


@dataclass(frozen=True)
class ScoreCalibration:
    """
    Conversion of the raw scores of rows to log-odds.

    Args:
        kind (`str`): Kind of the verdicts.
        pairing (`str`): Pairing of the rows of a decision.
        temperature, slow_temperature (`float`): Temperatures of fast and of written verdicts.
        fast_vote_weight (`float`): Weight of the fast log-odds; the written ones have the rest.
        hard_votes (`bool`): Whether to count final verdicts instead of averaging their probabilities.
    """

    kind: str
    pairing: Pairing
    temperature: float = 1.0
    slow_temperature: float = 1.0
    fast_vote_weight: float = 0.0
    hard_votes: bool = False

    def fast_score(self, fast_scores: Sequence[float]) -> float:
        """Return the log-odds by the fast path alone, in nats."""
        if self.pairing == "none":
            return fast_scores[0] / self.temperature
        return (fast_scores[0] - fast_scores[1]) / (2 if self.pairing == "orders" else 1) / self.temperature

    def score(self, fast_scores: Sequence[float], vote_scores: Sequence[Sequence[float | None]]) -> float:
        """Return the log-odds after the written judgments; rows without a final verdict use their fast one."""
        fast = self.fast_score(fast_scores)
        if not any(score is not None for votes in vote_scores for score in votes):
            return fast
        slow = self._slow_score(fast_scores, vote_scores)
        return self.fast_vote_weight * fast + (1 - self.fast_vote_weight) * slow

    def _slow_score(self, fast_scores, vote_scores) -> float:
        rows = [self._row(fast, votes) for fast, votes in zip(fast_scores, vote_scores, strict=True)]
        if self.pairing == "none":
            return rows[0]
        if self.pairing == "orders":
            return mean_log_odds([rows[0], -rows[1]])
        return rows[0] - rows[1]

    def _row(self, fast_score: float, votes: Sequence[float | None]) -> float:
        """Return the score of a row in nats."""
        parsed = [vote for vote in votes if vote is not None]
        if not parsed:
            return fast_score / self.temperature
        if self.kind == "rating":
            return float(np.mean(parsed)) / self.slow_temperature
        if self.hard_votes:
            share = float(np.mean([vote > 0 for vote in parsed]))
            return torch.tensor(share, dtype=torch.float64).logit(1e-6).item()
        return mean_log_odds([vote / self.slow_temperature for vote in parsed])


def mean_log_odds(log_odds: Sequence[float]) -> float:
    r"""
    Return the log-odds of the mean probability of several votes, exact even if probabilities round to 0 or 1.

    $$ \operatorname{logit} \frac1n \sum_v \sigma(z_v) = \log \sum_v \sigma(z_v) - \log \sum_v \sigma(-z_v) $$

    Example:
    ```python
    >>> mean_log_odds([50.0, 50.0])
    50.0
    ```
    """
    values = np.asarray(log_odds, float)
    yes, no = -np.logaddexp(0, -values), -np.logaddexp(0, values)
    return float(np.logaddexp.reduce(yes) - np.logaddexp.reduce(no))


def judgments_to_dataset(judgments: Sequence[Judgment]) -> Dataset:
    """
    Return a `datasets.Dataset` with a column for each field of [`Judgment`].

    Example:
    ```python
    >>> judgments_to_dataset(rm.judge(prompts, a, b)).to_json("judgments.jsonl")
    ```
    """
    return Dataset.from_list([asdict(judgment) for judgment in judgments])


def position_bias(judgments: Sequence[Judgment]) -> dict[str, float | int]:
    """
    Return the dependence of a pairwise judge on the order of responses, from its fast verdicts.

    Args:
        judgments (`list` of [`Judgment`]): Judgments of a pairwise judge with `both_orders`.

    Returns:
        `dict`: `num_pairs`; `disagreement`, the share of pairs whose two orders prefer different responses;
        `prefers_first`, the share of all first verdicts for the response shown first (0.5 without bias);
        `mean_bias`, the mean over pairs of half the sum of both margins for the response shown first, in nats.

    Raises:
        ValueError: If no pair was judged in both orders.

    Example:
    ```python
    >>> position_bias(rm.judge(prompts, a, b))["disagreement"]
    ```
    """
    scores = np.array([judgment.fast_scores for judgment in judgments if len(judgment.fast_scores) == 2])
    if len(scores) == 0:
        raise ValueError(
            f"None of the {len(judgments)} judgments has two rows, but position bias compares both orders of a pair. "
            "Use pairwise verdicts with `both_orders=True`."
        )
    return {
        "num_pairs": len(scores),
        "disagreement": float(np.mean([not judgment.consistent for judgment in judgments])),
        "prefers_first": float(np.mean(scores > 0)),
        "mean_bias": float(scores.mean()),
    }
