"""Thresholds of the gate for a budget of written judgments, or for a bound on the error of fast verdicts."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from hf_reward_ext.base.options import check_number
from hf_reward_ext.base.stats.intervals import clopper_pearson_upper
from hf_reward_ext.fast_slow.calibrate.calibration import Outcomes
from hf_reward_ext.fast_slow.judge.gate import ALWAYS, NEVER, Gate

_STEPS = 40


def escalated(gate: Gate, outcomes: Outcomes) -> np.ndarray:
    """Return which decisions the gate escalates."""
    return gate.escalates(torch.tensor(outcomes.intuition), torch.tensor(outcomes.distribution)).numpy()


def thresholds_for_budget(gate: Gate, outcomes: Outcomes, budget: float) -> Gate:
    """
    Return the most accurate gate that escalates at most a share `budget` of the decisions.

    Every pair of quantiles of the two confidences is tried. If the outcomes have written judgments, their accuracy
    counts, and their tokens are limited to the share `budget` too. Otherwise they are assumed to be correct.

    Args:
        gate ([`Gate`]): Rule and temperature.
        outcomes ([`Outcomes`]): Held-out decisions.
        budget (`float`): Maximum share, in [0, 1].

    Returns:
        [`Gate`]: Gate with the thresholds; the cheapest of equally accurate gates.

    Raises:
        ValueError: If the budget is not a share.

    Example:
    ```python
    >>> thresholds_for_budget(Gate(), outcomes, budget=0.4)
    ```
    """
    check_number("budget", budget, least=0, most=1)
    return best_within(budget, tried_gates(gate, outcomes))


class TriedGate(NamedTuple):
    """Gate with its accuracy on held-out decisions, and the larger of its shares of decisions and tokens."""

    gate: Gate
    accuracy: float
    cost: float


def tried_gates(gate: Gate, outcomes: Outcomes) -> list[TriedGate]:
    """Return a gate for every pair of quantiles as thresholds."""
    return [_tried(one, outcomes) for one in _candidates(gate, outcomes)]


def best_within(budget: float, tried: Sequence[TriedGate]) -> Gate:
    """Return the most accurate gate within `budget`, the cheapest of equal ones; else a gate that never escalates."""
    affordable = [one for one in tried if one.cost <= budget + 1e-9]
    if not affordable:
        return tried[0].gate.with_thresholds(NEVER, NEVER)
    return max(affordable, key=lambda one: (one.accuracy, -one.cost)).gate


def _tried(gate: Gate, outcomes: Outcomes) -> TriedGate:
    chosen = escalated(gate, outcomes)
    rate = float(chosen.mean())
    cost = rate if outcomes.slow_tokens is None else max(rate, outcomes.token_share(chosen))
    return TriedGate(gate, outcomes.accuracy(chosen), cost)


def thresholds_for_risk(gate: Gate, outcomes: Outcomes, risk: float, confidence: float = 0.95) -> Gate:
    r"""
    Return the most permissive gate whose fast verdicts have at most the error rate `risk`.

    The error rate holds with probability `confidence`, by fixed-sequence testing: both thresholds decrease together,
    quantile by quantile, as long as the Clopper-Pearson bound on the error of the kept fast verdicts is below `risk`.
    The first failure ends the sequence. It depends on confidences only, never on the truth, and starts where a judge
    with a quarter of the risk would pass.

    Args:
        gate ([`Gate`]): Rule and temperature.
        outcomes ([`Outcomes`]): Held-out decisions from the distribution of future decisions.
        risk (`float`): Maximum error rate, in (0, 1).
        confidence (`float`, *optional*): Confidence level of the bound, over draws of the held-out set.

    Returns:
        [`Gate`]: Gate with the thresholds; it always escalates if no thresholds can be certified.

    Raises:
        ValueError: If the risk is not in (0, 1), or there are too few decisions to certify it even without any error.
    """
    check_enough(len(outcomes), risk, confidence)
    certified = gate.with_thresholds(ALWAYS, ALWAYS)
    start = min(_start(risk, confidence), len(outcomes))
    for one in _diagonal(gate, outcomes):
        kept = ~escalated(one, outcomes)
        if kept.sum() < start:
            continue
        errors = float((1 - outcomes.fast_right[kept]).sum())
        if clopper_pearson_upper(errors, int(kept.sum()), confidence) > risk:
            break
        certified = one
    return certified


def check_enough(count: int, risk: float, confidence: float = 0.95) -> None:
    """
    Raise an error if there are too few decisions to certify an error rate even without an error.

    Args:
        count (`int`): Number of held-out decisions.
        risk, confidence (`float`): See [`thresholds_for_risk`].

    Raises:
        ValueError: If there are too few, or a rate is not between 0 and 1.

    Example:
    ```python
    >>> check_enough(20, 0.05)
    ValueError: `risk=0.05` at confidence 0.95 takes 59 held-out decisions even without an error, got 20. ...
    ```
    """
    check_number("risk", risk, above=0, below=1)
    check_number("confidence", confidence, above=0, below=1)
    needed = int(np.ceil(np.log(1 - confidence) / np.log(1 - risk)))
    if count < needed:
        raise ValueError(
            f"`risk={risk}` at confidence {confidence} takes {needed} held-out decisions even without an error, got "
            f"{count}. Give more, or a larger risk."
        )


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Return the quantiles 0, 1/40, ... of the values in ascending order, and a threshold above all values."""
    inner = np.quantile(values[~np.isnan(values)], np.linspace(0, 1, _STEPS + 1)[1:-1]) if len(values) else []
    return np.concatenate([[NEVER], np.unique(inner), [ALWAYS]])


def _candidates(gate: Gate, outcomes: Outcomes) -> list[Gate]:
    if gate.rule == "weighted":
        mixed = gate.weight * outcomes.intuition + (1 - gate.weight) * outcomes.distribution
        return [gate.with_thresholds(level, level) for level in _quantiles(mixed)]
    if np.isnan(outcomes.intuition).all():
        return [gate.with_thresholds(NEVER, level) for level in _quantiles(outcomes.distribution)]
    pairs = product(_quantiles(outcomes.intuition), _quantiles(outcomes.distribution))
    return [gate.with_thresholds(float(one), float(other)) for one, other in pairs]


def _diagonal(gate: Gate, outcomes: Outcomes) -> list[Gate]:
    """Return gates from always to never escalating, with both thresholds at the same quantile."""
    if gate.rule == "weighted" or np.isnan(outcomes.intuition).all():
        return _candidates(gate, outcomes)[::-1]
    levels = np.linspace(1, 0, 2 * _STEPS + 1)[1:-1]
    pairs = [(np.quantile(outcomes.intuition, level), np.quantile(outcomes.distribution, level)) for level in levels]
    return [gate.with_thresholds(float(one), float(other)) for one, other in [*pairs, (NEVER, NEVER)]]


def _start(risk: float, confidence: float) -> int:
    """Return the number of decisions at which a judge with a quarter of the risk is expected to pass."""
    count = 1
    while clopper_pearson_upper(np.ceil(count * risk / 4), count, confidence) > risk:
        count += 1
    return count
