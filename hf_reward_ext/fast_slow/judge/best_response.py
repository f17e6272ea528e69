"""Selection of the best response: fast scores for all, written judgments for close leaders only."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.fast_slow.judge.judgment import Judgment
from hf_reward_ext.fast_slow.model import FastSlowRewardModel


class BestResponse(NamedTuple):
    """
    Result of [`best_response`].

    Args:
        index (`int`): Index of the best response.
        scores (`list[float]`): Fast score of each response, in nats; differences are log-odds.
        leaders (`list[int]`): Indices of the best response by fast scores and of those not clearly worse.
        judgments (`list[Judgment]`): Written judgments of the leaders or of their pairs.
        num_tokens (`int`): Total number of generated tokens.
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
    Pick the best response to one prompt.

    Every response gets a fast score: its pointwise score, or its mean log-odds in comparisons with all others.
    Leaders are responses whose comparison with the best one is uncertain, $\tanh(\Delta / 2) < \theta_I$. If there are
    several, a pointwise judge writes about each of them, a pairwise judge about each pair of them.

    Args:
        judge ([`FastSlowRewardModel`]): Calibrated judge.
        prompt (`str` or messages): Prompt of all responses.
        responses (`list` of `str` or of messages): Candidate responses.
        max_leaders (`int`, *optional*, defaults to 4): Maximum number of responses that get a written
            judgment.
        threshold (`float`, *optional*): Threshold $\theta_I$. Default: the threshold of the judge's gate.

    Raises:
        ValueError: If there are no responses.

    Example:
    ```python
    >>> best_response(judge, "2+2?", ["4", "5", "four"]).index
    ```
    """
    if len(responses) == 0:
        raise ValueError("`responses` must have at least one response, got none. Pass the candidates.")
    check_count("max_leaders", max_leaders)
    if threshold is not None:
        check_number("threshold", threshold, least=0)
    scores, _, num_tokens = _scores(judge, prompt, responses, range(len(responses)), "fast")
    limit = judge.gate.intuition_threshold if threshold is None else threshold
    leaders = _leaders(scores, limit)[:max_leaders]
    if len(leaders) == 1:
        return BestResponse(leaders[0], scores, leaders, [], num_tokens)
    written, judgments, more = _scores(judge, prompt, responses, leaders, "slow")
    best = max(range(len(leaders)), key=lambda index: (written[index], -index))
    return BestResponse(leaders[best], scores, leaders, judgments, num_tokens + more)


def _leaders(scores: Sequence[float], limit: float) -> list[int]:
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    first = scores[order[0]]
    return [index for index in order if index == order[0] or math.tanh((first - scores[index]) / 2) < limit]


def _scores(judge: FastSlowRewardModel, prompt, responses, indices, mode) -> tuple[list[float], list[Judgment], int]:
    """Return the scores of selected responses, the judgments behind them, and the number of tokens."""
    some = [responses[index] for index in indices]
    if not judge.judge_prompt.is_pairwise:
        judgments = judge.judge([prompt] * len(some), some, mode=mode, show_progress=False)
        return [one.score for one in judgments], judgments, sum(one.num_tokens for one in judgments)
    duels = [(one, other) for one in range(len(some)) for other in range(one + 1, len(some))]
    if not duels:
        return [0.0] * len(some), [], 0
    first, second = [some[one] for one, _ in duels], [some[other] for _, other in duels]
    judgments = judge.judge([prompt] * len(duels), first, second, mode=mode, show_progress=False)
    odds = {(str(one), str(other)): judged.score for (one, other), judged in zip(duels, judgments, strict=True)}
    names = [("", str(index)) for index in range(len(some))]
    scores = mean_log_odds_of_duels(names, {("", *pair): score for pair, score in odds.items()})
    return scores, judgments, sum(one.num_tokens for one in judgments)


def mean_log_odds_of_duels(players: Sequence[tuple[str, str]], duels: Mapping[tuple[str, ...], float]) -> list[float]:
    """
    Return the mean log-odds of each completion over its comparisons; 0 for a completion without any.

    Args:
        players (`list` of `(prompt, completion)`): Completions to score.
        duels (`dict` from `(prompt, completion, other completion)` to `float`): Log-odds of the first completion over
            the second.

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
