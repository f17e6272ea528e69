"""The best of many responses: fast scores for all, written duels only among close leaders."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.fast_slow.judge.judgment import Judgment
from hf_reward_ext.fast_slow.model import FastSlowRewardModel


class BestResponse(NamedTuple):
    """
    What [`best_response`] found.

    Args:
        index (`int`): Of the best response.
        scores (`list[float]`): Fast score of each response, in nats; differences are log-odds.
        leaders (`list[int]`): The best by fast scores and those too close to it to tell.
        judgments (`list[Judgment]`): Of the leaders' written judgments or duels.
        num_tokens (`int`): Generated in all.
    """

    index: int
    scores: list[float]
    leaders: list[int]
    judgments: list[Judgment]
    num_tokens: int


def best_response(
    judge: FastSlowRewardModel, prompt, responses: Sequence, max_leaders: int = 4, threshold: float | None = None
) -> BestResponse:
    r"""
    Picks the best response to one prompt.

    Every response gets a fast score: its own with pointwise verdicts, its mean log-odds over duels with all others
    with pairwise ones. Leaders are those whose comparison with the first is unsure, $\tanh(\Delta / 2) < \theta_I$.
    If there are several, pointwise judges write about each of them, pairwise ones about each two of them.

    Args:
        judge ([`FastSlowRewardModel`]): Calibrated.
        prompt (`str` or messages), responses (`list` of `str` or of messages): The candidates.
        max_leaders (`int`, *optional*, defaults to 4): At most as many are written about.
        threshold (`float`, *optional*): $\theta_I$. Default: that of the judge's gate.

    Raises:
        ValueError: If there are no responses.

    Example:
    ```python
    >>> best_response(judge, "2+2?", ["4", "5", "four"]).index
    ```
    """
    if len(responses) == 0:
        raise ValueError("`responses` must have at least one response. No responses were given.")
    check_count("max_leaders", max_leaders)
    if threshold is not None:
        check_number("threshold", threshold, least=0)
    scores, _, num_tokens = _scores(judge, prompt, responses, range(len(responses)), "fast")
    limit = judge.gate.intuition_threshold if threshold is None else threshold
    leaders = _leaders(scores, limit)[:max_leaders]
    if len(leaders) == 1:
        return BestResponse(leaders[0], scores, leaders, [], num_tokens)
    written, judgments, more = _scores(judge, prompt, responses, leaders, "slow")
    best = max(range(len(leaders)), key=lambda place: (written[place], -place))
    return BestResponse(leaders[best], scores, leaders, judgments, num_tokens + more)


def _leaders(scores: Sequence[float], limit: float) -> list[int]:
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    first = scores[order[0]]
    return [place for place in order if place == order[0] or math.tanh((first - scores[place]) / 2) < limit]


def _scores(judge: FastSlowRewardModel, prompt, responses, places, mode) -> tuple[list[float], list[Judgment], int]:
    """Scores of some responses, the judgments they come from, and their tokens."""
    some = [responses[place] for place in places]
    if not judge.judge_prompt.is_pairwise:
        judgments = judge.judge([prompt] * len(some), some, mode=mode, show_progress=False)
        return [one.score for one in judgments], judgments, sum(one.num_tokens for one in judgments)
    duels = [(one, other) for one in range(len(some)) for other in range(one + 1, len(some))]
    if not duels:
        return [0.0] * len(some), [], 0
    first, second = [some[one] for one, _ in duels], [some[other] for _, other in duels]
    judgments = judge.judge([prompt] * len(duels), first, second, mode=mode, show_progress=False)
    odds = {(str(one), str(other)): judged.score for (one, other), judged in zip(duels, judgments, strict=True)}
    names = [("", str(place)) for place in range(len(some))]
    scores = mean_log_odds_of_duels(names, {("", *pair): score for pair, score in odds.items()})
    return scores, judgments, sum(one.num_tokens for one in judgments)


def mean_log_odds_of_duels(players: Sequence[tuple[str, str]], duels: Mapping[tuple[str, ...], float]) -> list[float]:
    """
    Mean log-odds of each completion over its duels; 0 for one that met nobody.

    Args:
        players (`list` of `(prompt, completion)`): Who gets a score.
        duels (`dict` from `(prompt, completion, other completion)` to `float`): Log-odds of the first of the two.

    Example:
    ```python
    >>> mean_log_odds_of_duels([("x", "a"), ("x", "b")], {("x", "a", "b"): 2.0})
    [2.0, -2.0]
    ```
    """
    won: dict[tuple[str, str], list[float]] = {}
    for (prompt, one, other), score in duels.items():
        won.setdefault((prompt, one), []).append(score)
        won.setdefault((prompt, other), []).append(-score)
    return [sum(won[player]) / len(won[player]) if player in won else 0.0 for player in players]
