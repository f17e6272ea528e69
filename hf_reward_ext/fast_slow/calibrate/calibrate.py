"""Calibrates a judge on held-out pairs: judge, fit, choose thresholds, remember what was seen."""

from dataclasses import replace

import numpy as np
import torch

from hf_reward_ext.base.stats.calibration import expected_calibration_error
from hf_reward_ext.base.stats.intervals import clopper_pearson_upper
from hf_reward_ext.fast_slow.calibrate.calibration import (
    fit_fast_temperature,
    fit_fast_weight,
    fit_slow_temperature,
    outcomes,
)
from hf_reward_ext.fast_slow.calibrate.report import write_report
from hf_reward_ext.fast_slow.calibrate.thresholds import escalated, thresholds_for_budget, thresholds_for_risk
from hf_reward_ext.fast_slow.judge.confidence import intuition_confidence
from hf_reward_ext.fast_slow.judge.judgment import Judgment, Scale


def calibrate(judge, dataset, budget, risk, slow, fuse, confidence, show_progress) -> dict:
    """What [`FastSlowRewardModel.calibrate`] does."""
    if (budget is None) == (risk is None):
        raise ValueError(
            f"`budget={budget}` and `risk={risk}` were given, but thresholds serve one aim. Pass exactly one of them."
        )
    pairs, truth = alternating_pairs(dataset)
    fast = judge.judge(*pairs, mode="fast", show_progress=show_progress)
    written = judge.judge(*pairs, mode="slow", show_progress=show_progress) if slow else None
    before = expected_calibration_error(np.array([one.probability for one in fast]), truth)
    gate = replace(judge.gate, temperature=fit_fast_temperature(fast, truth, judge.scale))
    if judge.judge_prompt.kind == "scale":
        gate = replace(gate, reference_score=float(np.mean([score for one in fast for score in one.fast_scores])))
    scale = replace(judge.scale, temperature=gate.temperature)
    if written is not None:
        scale = replace(scale, slow_temperature=fit_slow_temperature(written, truth, scale))
        scale = replace(scale, fast_weight=fit_fast_weight(written, truth, scale) if fuse else 0.0)
        judge.config.slow_temperature, judge.config.fast_weight = scale.slow_temperature, scale.fast_weight
        written = [rescored(one, scale) for one in written]
    fast = [rescored(one, scale) for one in fast]
    data = outcomes(fast, truth, written)
    gate = (
        thresholds_for_budget(gate, data, budget) if risk is None else thresholds_for_risk(gate, data, risk, confidence)
    )
    chosen = escalated(gate, data)
    kept = ~chosen
    found = {
        "num_pairs": len(data),
        "budget": budget,
        "risk": risk,
        "temperature": gate.temperature,
        "intuition_threshold": gate.intuition_threshold,
        "distribution_threshold": gate.distribution_threshold,
        "escalation_rate": float(chosen.mean()),
        "fast_accuracy": float(data.fast_right.mean()),
        "kept_accuracy": float(data.fast_right[kept].mean()) if kept.any() else None,
        "kept_error_bound": clopper_pearson_upper(float((1 - data.fast_right[kept]).sum()), int(kept.sum()), confidence)
        if kept.any()
        else None,
        "ece_before": before,
        "ece_after": expected_calibration_error(np.array([one.probability for one in fast]), truth),
        "mass_mean": float(np.mean([one.mass for one in fast])),
        "mass_std": float(np.std([one.mass for one in fast])),
    }
    if written is not None:
        found |= {
            "slow_temperature": scale.slow_temperature,
            "fast_weight": scale.fast_weight,
            "slow_accuracy": data.accuracy(np.ones(len(data), bool)),
            "gated_accuracy": data.accuracy(chosen),
            "token_share": data.token_share(chosen),
        }
    judge.set_calibration(gate, found)
    return found


def calibration_report(judge, dataset, output_dir) -> dict:
    """What [`FastSlowRewardModel.calibration_report`] does."""
    pairs, truth = alternating_pairs(dataset)
    fast, slow = judge.judge(*pairs, mode="fast"), judge.judge(*pairs, mode="slow")
    return write_report(output_dir, judge.gate, fast, slow, truth)


def alternating_pairs(dataset) -> tuple[tuple[list, list, list], np.ndarray]:
    """Prompts, responses a and b, and whether a is the chosen one: in every other row it is not."""
    rows = list(dataset)
    missing = {"prompt", "chosen", "rejected"} - set(rows[0] if rows else {})
    if missing:
        raise ValueError(
            f"The held-out pairs lack {sorted(missing)}, but a judge is calibrated on known preferences. "
            "Give rows `{prompt, chosen, rejected}`."
        )
    truth = np.arange(len(rows)) % 2 == 0
    first = [row["chosen"] if chosen else row["rejected"] for row, chosen in zip(rows, truth, strict=True)]
    second = [row["rejected"] if chosen else row["chosen"] for row, chosen in zip(rows, truth, strict=True)]
    return ([row["prompt"] for row in rows], first, second), truth


def rescored(judgment: Judgment, scale: Scale) -> Judgment:
    """The judgment at other temperatures: probability, score and intuition."""
    fast = torch.tensor([scale.fast_score(judgment.fast_scores)], dtype=torch.float64)
    score = scale.score(judgment.fast_scores, judgment.vote_scores)
    return replace(
        judgment,
        score=score,
        probability=torch.tensor(score, dtype=torch.float64).sigmoid().item(),
        fast_probability=fast.sigmoid().item(),
        intuition=intuition_confidence(fast).item() if judgment.consistent else 0.0,
    )
