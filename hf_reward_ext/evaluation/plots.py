"""Plots of evaluations, written without a display."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hf_reward_ext.base.stats.intervals import Estimate

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # of Okabe and Ito: distinct for color-blind readers
MARKERS = ("o", "s", "^", "D")


class Point(NamedTuple):
    """Estimate at a place on the horizontal axis, with its name."""

    x: float
    accuracy: Estimate
    name: str


def plot_estimates(
    estimates: Mapping[str, Estimate], path: str | Path, title: str = "", highlight: Collection[str] = ()
) -> None:
    """Plot horizontal bars with intervals, the first estimate on top, some in color. Requires matplotlib."""
    figure = _figure(6, 1.2 + 0.28 * len(estimates))
    axes = figure.subplots()
    names, values = list(estimates), list(estimates.values())
    errors = [[one.value - one.lower for one in values], [one.upper - one.value for one in values]]
    colors = [COLORS[0] if name in highlight else "0.75" for name in names]
    axes.barh(names, [one.value for one in values], xerr=errors, color=colors, error_kw={"capsize": 2, "linewidth": 1})
    axes.invert_yaxis()
    axes.set(xlabel="accuracy", xlim=(0, 1.02), title=title)
    figure.savefig(path, dpi=150)


def plot_curves(curves: Mapping[str, Mapping[int, Estimate]], path: str | Path, title: str = "") -> None:
    """Plot a line with a band for each curve over k. Requires matplotlib."""
    figure = _figure(5.5, 4)
    axes = figure.subplots()
    for name, curve in curves.items():
        ks = sorted(curve)
        axes.plot(ks, [curve[k].value for k in ks], marker="o", markersize=3, label=name)
        axes.fill_between(ks, [curve[k].lower for k in ks], [curve[k].upper for k in ks], alpha=0.15)
    axes.set_xscale("log", base=2)
    ticks = sorted({k for curve in curves.values() for k in curve if k & (k - 1) == 0 or k == max(curve)})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set(xlabel="candidates", ylabel="accuracy", title=title)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def plot_trade_off(series: Mapping[str, Sequence[Point]], path: str | Path, xlabel: str, title: str = "") -> None:
    """Plot a line with intervals through the points of each series, with different markers. Requires matplotlib."""
    figure = _figure(5, 3.5)
    axes = figure.subplots()
    named = sum(map(len, series.values())) <= 4  # more names would overlap
    for number, (name, points) in enumerate(series.items()):
        ordered = sorted(points)
        values = [point.accuracy.value for point in ordered]
        below = [point.accuracy.value - point.accuracy.lower for point in ordered]
        above = [point.accuracy.upper - point.accuracy.value for point in ordered]
        axes.errorbar(
            [point.x for point in ordered], values, yerr=[below, above], label=name, capsize=2, linewidth=1.5,
            markersize=6, color=COLORS[number % len(COLORS)], marker=MARKERS[number % len(MARKERS)],
        )  # fmt: skip
        above_or_below = (0, 13) if number == 0 else (0, -20)
        for point in ordered if named else ():
            place = (point.x, point.accuracy.value)
            axes.annotate(point.name, place, above_or_below, textcoords="offset points", ha="center")
    axes.set(xlabel=xlabel, ylabel="accuracy", ylim=(0, 1.02), title=title)
    axes.margins(x=0.15)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=180)


def plot_reliability(bins: Sequence[tuple[float, float, float]], path: str | Path, title: str = "") -> None:
    """Plot accuracy against confidence, with the area of a point as its share of pairs. Requires matplotlib."""
    figure = _figure(4.5, 4)
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color="0.7", linewidth=1)
    confidences, accuracies = [row[0] for row in bins], [row[1] for row in bins]
    axes.plot(confidences, accuracies, linewidth=1)
    axes.scatter(confidences, accuracies, s=[20 + 300 * row[2] for row in bins])
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0.48, 1.02), ylim=(-0.02, 1.02), title=title)
    figure.savefig(path, dpi=150)


def plot_drift(history: Sequence[Mapping[str, float]], path: str | Path, title: str = "") -> None:
    """Plot what [`RewardDriftCallback`] measured over steps, with lines where the rewards part. Requires matplotlib."""
    figure = _figure(7, 5)
    steps = [row["step"] for row in history]
    panels = {
        "reward in training": "reward",
        "held-out reward": "held_out_reward",
        "KL from the start, nats": "kl",
        "tokens": "length",
        "shift of features": "feature_shift",
        "share without reward": "reward_unanswered",
    }
    for axes, (label, name) in zip(figure.subplots(3, 2, sharex=True).flat, panels.items(), strict=True):
        axes.plot(steps, [row[name] for row in history], marker="o", markersize=3)
        for row in history:
            if row["parted"]:
                axes.axvline(row["step"], color="tab:red", linewidth=1)
        axes.set_title(label, fontsize=9)
    figure.supxlabel("step")
    figure.suptitle(title)
    figure.savefig(path, dpi=150)


def _figure(width: float, height: float):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "matplotlib is not installed, but plots need it. Run `pip install hf_reward_ext[plot]`."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
