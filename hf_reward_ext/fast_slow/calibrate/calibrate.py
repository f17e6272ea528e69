"""Fitting of a judge's temperatures and thresholds to its judgments of held-out pairs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hf_reward_ext.base.stats.calibration import expected_calibration_error
from hf_reward_ext.base.stats.intervals import clopper_pearson_upper
from hf_reward_ext.fast_slow.calibrate.aim import Aim
from hf_reward_ext.fast_slow.calibrate.calibration import (
    Outcomes,
    fit_fast_temperature,
    fit_fast_vote_weight,
    fit_slow_temperature,
    outcomes,
)
from hf_reward_ext.fast_slow.calibrate.quality import judge_quality
from hf_reward_ext.fast_slow.calibrate.thresholds import escalated
from hf_reward_ext.fast_slow.judge.confidence import intuition_confidence
from hf_reward_ext.fast_slow.judge.gate import Gate
from hf_reward_ext.fast_slow.judge.judgment import Judgment, ScoreCalibration
from hf_reward_ext.fast_slow.judge.messages import plain_text

_COLUMNS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class CalibrationResult:
    """
    Result of a calibration on held-out judgments.

    Args:
        gate ([`Gate`]): Temperature and thresholds.
        score_calibration ([`ScoreCalibration`]): All temperatures, and the weight of the fast verdict.
        report (`dict`): Fitted and measured values.
    """

    gate: Gate
    score_calibration: ScoreCalibration
    report: dict


def fit_calibration(
    fast: Sequence[Judgment],
    a_is_right: np.ndarray,
    aim: Aim,
    gate: Gate,
    score_calibration: ScoreCalibration,
    *,
    written: Sequence[Judgment] | None = None,
    fuse: bool = False,
) -> CalibrationResult:
    """
    Fit temperatures, and thresholds for an aim.

    Args:
        fast (`list` of [`Judgment`]): Fast verdicts on held-out pairs.
        a_is_right (`np.ndarray` of shape `(decisions,)`): `True` if response a is better.
        aim ([`Aim`]): Budget or error rate of the thresholds.
        gate ([`Gate`]): Gate with the rule and the distribution confidence to use.
        score_calibration ([`ScoreCalibration`]): Kind of verdicts and pairing of rows.
        written (`list` of [`Judgment`], *optional*): Written judgments on the same pairs.
        fuse (`bool`, *optional*): Whether to fit the weight of the fast probability.

    Returns:
        [`CalibrationResult`]

    Raises:
        ValueError: If there are too few pairs for the risk.

    Example:
    ```python
    >>> fast = judge.judge(*pairs, mode="fast")
    >>> fit_calibration(fast, truth, Aim(budget=0.4), judge.gate, judge.score_calibration).gate
    ```
    """
    before = expected_calibration_error(np.array([one.probability for one in fast]), a_is_right)
    score_calibration = replace(
        score_calibration, temperature=fit_fast_temperature(fast, a_is_right, score_calibration)
    )
    gate = replace(gate, temperature=score_calibration.temperature)
    if score_calibration.kind == "rating":
        gate = replace(gate, reference_score=float(np.mean([score for one in fast for score in one.fast_scores])))
    if written is not None:
        score_calibration = replace(
            score_calibration, slow_temperature=fit_slow_temperature(written, a_is_right, score_calibration)
        )
        score_calibration = replace(
            score_calibration,
            fast_vote_weight=fit_fast_vote_weight(written, a_is_right, score_calibration) if fuse else 0.0,
        )
        written = [rescored(one, score_calibration) for one in written]
    fast = [rescored(one, score_calibration) for one in fast]
    data = outcomes(fast, a_is_right, written)
    gate = aim.gate(gate, data)
    report = {
        "num_pairs": len(data),
        "budget": aim.budget,
        "risk": aim.risk,
        "temperature": gate.temperature,
        "intuition_threshold": gate.intuition_threshold,
        "distribution_threshold": gate.distribution_threshold,
        **_measured(data, gate, aim.confidence),
        "ece_before": before,
        "ece_after": expected_calibration_error(np.array([one.probability for one in fast]), a_is_right),
        "mass_mean": float(np.mean([one.mass for one in fast])),
        "mass_std": float(np.std([one.mass for one in fast])),
        **judge_quality(fast, data.fast_right, written, score_calibration.pairing == "orders"),
    }
    if written is not None:
        report |= {
            "slow_temperature": score_calibration.slow_temperature,
            "fast_vote_weight": score_calibration.fast_vote_weight,
        }
    return CalibrationResult(gate, score_calibration, report)


def _measured(data: Outcomes, gate: Gate, confidence: float) -> dict:
    chosen = escalated(gate, data)
    kept = ~chosen
    errors = float((1 - data.fast_right[kept]).sum())
    found = {
        "escalation_rate": float(chosen.mean()),
        "fast_accuracy": float(data.fast_right.mean()),
        "kept_accuracy": float(data.fast_right[kept].mean()) if kept.any() else None,
        "kept_error_bound": clopper_pearson_upper(errors, int(kept.sum()), confidence) if kept.any() else None,
    }
    if data.slow_tokens is not None:
        found |= {
            "slow_accuracy": data.accuracy(np.ones(len(data), bool)),
            "gated_accuracy": data.accuracy(chosen),
            "token_share": data.token_share(chosen),
        }
    return found


def alternating_pairs(dataset: Iterable[dict]) -> tuple[tuple[list[str], list[str], list[str]], np.ndarray]:
    """
    Return prompts, responses a and b, and whether a is the chosen one, which holds for every other row.

    Args:
        dataset (`Dataset` or `list` of `dict`): Rows `{prompt, chosen, rejected}`, texts or messages.

    Raises:
        TypeError: If an entry is neither a text nor messages; the message names it.
        ValueError: If there are no rows, or a row lacks a column.
    """
    rows = [_texts(index, row) for index, row in enumerate(dataset)]
    if not rows:
        raise ValueError("The held-out pairs must not be empty. Give rows `{prompt, chosen, rejected}`.")
    truth = np.arange(len(rows)) % 2 == 0
    first = [row["chosen"] if chosen else row["rejected"] for row, chosen in zip(rows, truth, strict=True)]
    second = [row["rejected"] if chosen else row["chosen"] for row, chosen in zip(rows, truth, strict=True)]
    return ([row["prompt"] for row in rows], first, second), truth


def _texts(index: int, row: dict) -> dict[str, str]:
    missing = set(_COLUMNS) - set(row)
    if missing:
        raise ValueError(
            f"Row {index} of the held-out pairs lacks {sorted(missing)}: a judge is calibrated on known preferences. "
            "Give rows `{prompt, chosen, rejected}`."
        )
    texts = {}
    for column in _COLUMNS:
        try:
            texts[column] = plain_text(row[column])
        except (TypeError, ValueError) as error:
            raise type(error)(f"`{column}` of row {index}: {error}") from error
    return texts


def rescored(judgment: Judgment, score_calibration: ScoreCalibration) -> Judgment:
    """Return a judgment with probability, score and intuition for other temperatures."""
    fast = torch.tensor([score_calibration.fast_score(judgment.fast_scores)], dtype=torch.float64)
    score = score_calibration.score(judgment.fast_scores, judgment.vote_scores)
    return replace(
        judgment,
        score=score,
        probability=torch.tensor(score, dtype=torch.float64).sigmoid().item(),
        fast_probability=fast.sigmoid().item(),
        intuition=intuition_confidence(fast).item() if judgment.consistent else 0.0,
    )
