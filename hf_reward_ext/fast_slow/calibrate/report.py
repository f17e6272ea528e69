"""Report of a judge: calibration error, and accuracy against tokens, as numbers and plots."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.base.stats.calibration import expected_calibration_error, reliability
from hf_reward_ext.base.stats.intervals import Estimate, share_with_interval
from hf_reward_ext.base.stats.pictures import COLORS, GRAY, MARKERS, draw_intervals, drawn, join_equal, range_around
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


def _ends(gate: Gate, data: Outcomes) -> dict[str, dict]:
    """Return the points of no gate, of only written judgments and of the gate in use, with intervals."""
    none = np.zeros(len(data), bool)
    paths = {"fast": none, "slow": ~none, "gate": escalated(gate, data)}
    points = {}
    for name, chosen in paths.items():
        interval = share_with_interval(data.right(chosen))
        points[name] = {**_point(data, chosen), "interval": [interval.lower, interval.upper]}
    return points


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

    Thresholds of the curves are chosen on every other decision, and accuracy is measured on the rest, also that of the
    ends of the curves, with intervals.

    Args:
        folder (`str` or `Path`): Output folder, created if missing.
        gate ([`Gate`]): Gate of the judge.
        fast, slow (`list` of [`Judgment`]): Judgments by each path, on the same decisions.
        a_is_right (`list` of `bool`): `True` if response a is better.
        both_orders (`bool`): Whether each decision shows a pair in both orders.

    Returns:
        `dict`: Content of `report.json`: accuracies, tokens, calibration errors, the gate, the curves, their
        ends, and the measures of [`judge_quality`]: position bias, judgments without a verdict, problems.
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
        "ends": _ends(gate, data.take(~half)),
    }
    replace_text(folder / "report.json", json.dumps(report, indent=1) + "\n")
    _draw_reliability(
        folder / "reliability.png", {name: reliability(one, truth) for name, one in probabilities.items()}
    )
    _draw_curves(folder / "accuracy_tokens.png", report["curves"], report["ends"])
    return report


def _draw_reliability(path: Path, tables: dict[str, list[tuple[float, float, float]]]) -> None:
    with drawn(path, 8, 3.2) as figure:  # a panel each, since the paths agree on most decisions
        panels = figure.subplots(1, len(tables), sharex=True, sharey=True)
        for axes, color, (name, table) in zip(panels, COLORS, tables.items(), strict=False):
            axes.plot([0.5, 1], [0.5, 1], color=GRAY, linewidth=1)
            places, accuracies = [row[0] for row in table], [row[1] for row in table]
            axes.plot(places, accuracies, color=color, linewidth=1)
            axes.scatter(places, accuracies, s=[20 + 200 * row[2] for row in table], color=color)
            axes.set(title=name, xlim=(0.48, 1.02), ylim=(-0.05, 1.05))
        panels[0].set_ylabel("accuracy")
        figure.supxlabel("confidence; area of a point: share of decisions", fontsize=9)


def _draw_curves(path: Path, curves: dict[str, list[dict]], ends: dict[str, dict]) -> None:
    """Draw the ends and the gate in use with intervals, a random gate between the ends, and what gates reach."""
    with drawn(path, 5, 4) as figure:
        axes = figure.subplots()
        line = [ends["fast"], ends["slow"]]
        axes.plot(
            [one["tokens"] for one in line], [one["accuracy"] for one in line], "--", color=GRAY, label="random gate"
        )
        gates = {
            name: sorted({(one["tokens"], one["accuracy"]) for one in points})
            for name, points in curves.items()
            if name != "random"
        }
        for number, (name, points) in enumerate(join_equal(gates).items()):
            size = 12 - 2.5 * number  # a point of a later series does not hide that of an earlier one
            axes.plot(
                *zip(*points, strict=True), color=COLORS[number], marker=MARKERS[number], markersize=size, label=name
            )
        for (name, end), color, marker in zip(ends.items(), ("black", "black", COLORS[3]), "<>*", strict=True):
            where, label = Estimate(end["accuracy"], *end["interval"]), f"always {name}"
            label = "gate in use" if name == "gate" else label
            draw_intervals(axes, [end["tokens"]], [where], color, marker=marker, markersize=6, label=label)
        shown = [one["accuracy"] for points in curves.values() for one in points]
        shown += [bound for end in ends.values() for bound in (end["accuracy"], *end["interval"])]
        axes.set(xlabel="tokens, share of always slow", ylabel="accuracy", ylim=range_around(shown))
        axes.margins(x=0.08)
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=2)
