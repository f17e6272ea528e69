"""Report of a judge: calibration error, and accuracy against tokens, as numbers and plots."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.base.stats.calibration import expected_calibration_error, reliability
from hf_reward_ext.fast_slow.calibrate.calibration import Outcomes, Truth, outcomes
from hf_reward_ext.fast_slow.calibrate.quality import judge_quality
from hf_reward_ext.fast_slow.calibrate.thresholds import best_within, escalated, tried_gates
from hf_reward_ext.fast_slow.judge.gate import Gate
from hf_reward_ext.fast_slow.judge.judgment import Judgment

BUDGETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def accuracy_token_curves(gate: Gate, chosen_on: Outcomes, measured_on: Outcomes) -> dict[str, list[dict[str, float]]]:
    """
    Return accuracy and token share at each budget for the gate, each confidence alone, and a random gate.

    Args:
        gate ([`Gate`]): Rule and temperature.
        chosen_on ([`Outcomes`]): Decisions on which thresholds are chosen, with written judgments.
        measured_on ([`Outcomes`]): Other decisions, on which accuracy is measured.

    Returns:
        `dict` from `"both"`, `"intuition"`, `"distribution"`, `"random"` to a list of `{budget, rate, tokens,
        accuracy}`. The random gate has the rate of `"both"`; its values are expectations.
    """
    curves: dict[str, list[dict[str, float]]] = {"both": [], "intuition": [], "distribution": [], "random": []}
    alone = replace(gate, rule="or")
    tried = {
        "both": tried_gates(gate, chosen_on),
        "intuition": tried_gates(alone, _only(chosen_on, "intuition")),
        "distribution": tried_gates(alone, _only(chosen_on, "distribution")),
    }
    for budget in BUDGETS:
        for name, gates in tried.items():
            chosen = escalated(best_within(budget, gates), measured_on)
            curves[name].append({"budget": budget, **_point(measured_on, chosen)})
        rate = curves["both"][-1]["rate"]
        none, everyone = np.zeros(len(measured_on), bool), np.ones(len(measured_on), bool)
        mixed = {
            key: (1 - rate) * _point(measured_on, none)[key] + rate * _point(measured_on, everyone)[key]
            for key in ("tokens", "accuracy")
        }
        curves["random"].append({"budget": budget, "rate": rate, **mixed})
    return curves


def _only(data: Outcomes, confidence: str) -> Outcomes:
    """Return the gate with one confidence only; the other one never escalates."""
    other = "distribution" if confidence == "intuition" else "intuition"
    return replace(data, **{other: np.ones(len(data))})


def _point(data: Outcomes, chosen: np.ndarray) -> dict[str, float]:
    return {"rate": float(chosen.mean()), "tokens": data.token_share(chosen), "accuracy": data.accuracy(chosen)}


def write_report(
    folder: str | Path,
    gate: Gate,
    fast: Sequence[Judgment],
    slow: Sequence[Judgment],
    a_is_right: Truth,
    both_orders: bool,
) -> dict:
    """
    Write `report.json`, `reliability.png` and `accuracy_tokens.png`.

    Thresholds of the curves are chosen on every other decision, and accuracy is measured on the rest.

    Args:
        folder (`str` or `Path`): Output folder, created if missing.
        gate ([`Gate`]): Gate of the judge.
        fast, slow (`list` of [`Judgment`]): Judgments by each path, on the same decisions.
        a_is_right (`list` of `bool`): `True` if response a is better.
        both_orders (`bool`): Whether each decision shows a pair in both orders.

    Returns:
        `dict`: Content of `report.json`: accuracies, tokens, calibration errors, the gate, the curves, and the measures
        of [`judge_quality`]: position bias, judgments without a verdict, problems.
    """
    folder, truth = Path(folder), np.asarray(a_is_right)
    folder.mkdir(parents=True, exist_ok=True)
    data = outcomes(fast, truth, slow)
    chosen = escalated(gate, data)
    gated = [written if one else quick for quick, written, one in zip(fast, slow, chosen, strict=True)]
    paths = {"fast": fast, "slow": slow, "gated": gated}
    probabilities = {name: np.array([one.probability for one in path]) for name, path in paths.items()}
    half = np.arange(len(data)) % 2 == 0
    report = {
        "num_decisions": len(data),
        "fast_accuracy": float(data.fast_right.mean()),
        "slow_accuracy": data.accuracy(np.ones(len(data), bool)),
        "mean_slow_tokens": float(data.slow_tokens.mean()) if data.slow_tokens is not None else None,
        **judge_quality(fast, data.fast_right, slow, both_orders),
        "ece": {name: expected_calibration_error(one, truth) for name, one in probabilities.items()},
        "gate": _point(data, chosen),
        "curves": accuracy_token_curves(gate, data.take(half), data.take(~half)),
    }
    replace_text(folder / "report.json", json.dumps(report, indent=1) + "\n")
    _draw_reliability(
        folder / "reliability.png", {name: reliability(one, truth) for name, one in probabilities.items()}
    )
    _draw_curves(folder / "accuracy_tokens.png", report["curves"], report["gate"])
    return report


def _draw_reliability(path: Path, tables: dict[str, list[tuple[float, float, float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color="0.7", linewidth=1)
    for name, table in tables.items():
        axes.plot([row[0] for row in table], [row[1] for row in table], marker="o", markersize=4, label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0.49, 1.01), ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def _draw_curves(path: Path, curves: dict[str, list[dict[str, float]]], in_use: dict[str, float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        points = sorted(points, key=lambda point: point["tokens"])
        tokens, accuracies = [one["tokens"] for one in points], [one["accuracy"] for one in points]
        axes.plot(tokens, accuracies, "--" if name == "random" else "o-", markersize=3, label=name)
    axes.plot(in_use["tokens"], in_use["accuracy"], marker="*", markersize=12, color="black", label="gate in use")
    axes.set(xlabel="tokens, share of always slow", ylabel="accuracy")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
