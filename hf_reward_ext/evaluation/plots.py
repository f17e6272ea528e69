"""Plots of evaluations, in the style of `hf_reward_ext.base.stats.pictures`."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.base.stats.pictures import COLORS, GRAY, MARKERS, draw_intervals, drawn


class Point(NamedTuple):
    """Estimate at a place on the horizontal axis, with its name."""

    x: float
    accuracy: Estimate
    name: str


def plot_estimates(
    estimates: Mapping[str, Estimate], path: str | Path, title: str = "", highlight: Collection[str] = ()
) -> None:
    """Plot a row with an interval for each estimate, the first on top, some in color. Requires matplotlib."""
    names = list(estimates)
    with drawn(path, 6, 1 + 0.28 * len(names)) as figure:
        axes = figure.subplots()
        for row, name in enumerate(names):
            color = COLORS[0] if name in highlight or not highlight else GRAY
            draw_intervals(axes, [row], [estimates[name]], color, horizontal=True)
            axes.annotate(f"{estimates[name].value:.3f}", (1.06, row), va="center", annotation_clip=False)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="accuracy", xlim=(-0.02, 1.03), ylim=(len(names) - 0.5, -0.5), title=title)
        axes.grid(axis="x")
        if any(one.lower == one.upper for one in estimates.values()):
            figure.supxlabel("hollow: all values are equal, so that there is no interval", fontsize=8, color=GRAY)


def plot_curves(curves: Mapping[str, Mapping[int, Estimate]], path: str | Path, title: str = "") -> None:
    """Plot a line with a band for each curve over k. Requires matplotlib."""
    with drawn(path, 5.5, 4) as figure:
        axes = figure.subplots()
        for number, (name, curve) in enumerate(curves.items()):
            ks = sorted(curve)
            color = GRAY if name == "pass@k" else COLORS[number % len(COLORS)]  # the oracle, which no choice reaches
            axes.plot(
                ks, [curve[k].value for k in ks], color=color, marker=MARKERS[number % len(MARKERS)], label=name,
                linestyle="--" if name == "pass@k" else "-",
            )  # fmt: skip
            lower, upper = ([getattr(curve[k], side) for k in ks] for side in ("lower", "upper"))
            axes.fill_between(ks, lower, upper, color=color, alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        ticks = sorted({k for curve in curves.values() for k in curve if k & (k - 1) == 0 or k == max(curve)})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set(xlabel="candidates", ylabel="accuracy", ylim=(-0.02, 1.02), title=title)
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=min(4, len(curves)))


def plot_trade_off(series: Mapping[str, Sequence[Point]], path: str | Path, xlabel: str, title: str = "") -> None:
    """Plot a line with intervals through the points of each series, with different markers. Requires matplotlib."""
    with drawn(path, 5, 3.5) as figure:
        axes = figure.subplots()
        names = [point.name for points in series.values() for point in points]
        named = len(names) <= 4 or max(map(len, names)) <= 10  # others would overlap
        for number, (name, points) in enumerate(series.items()):
            ordered = sorted(points)
            color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
            places, estimates = [point.x for point in ordered], [point.accuracy for point in ordered]
            axes.plot(places, [one.value for one in estimates], color=color)
            draw_intervals(axes, places, estimates, color, marker=marker, label=name)
            above_or_below = (0, 13) if number == 0 else (0, -20)
            for point in ordered if named else ():
                place = (point.x, point.accuracy.value)
                axes.annotate(point.name, place, above_or_below, textcoords="offset points", ha="center")
        axes.set(xlabel=xlabel, ylabel="accuracy", ylim=(-0.02, 1.02), title=title)
        axes.margins(x=0.15)
        axes.grid(axis="y")
        axes.legend()


def plot_reliability(bins: Sequence[tuple[float, float, float]], path: str | Path, title: str = "") -> None:
    """Plot accuracy against confidence, with the area of a point as its share of pairs. Requires matplotlib."""
    with drawn(path, 4.5, 4) as figure:
        axes = figure.subplots()
        axes.plot([0.5, 1], [0.5, 1], color=GRAY, linewidth=1)
        confidences, accuracies = [row[0] for row in bins], [row[1] for row in bins]
        axes.plot(confidences, accuracies, linewidth=1)
        axes.scatter(confidences, accuracies, s=[20 + 300 * row[2] for row in bins], color=COLORS[0])
        for confidence, accuracy, share in bins:
            place = (confidence, accuracy)
            axes.annotate(f"{share:.0%}", place, (0, -15), textcoords="offset points", ha="center", fontsize=7)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0.48, 1.02), ylim=(-0.05, 1.05), title=title)


def plot_drift(history: Sequence[Mapping[str, float]], path: str | Path, title: str = "") -> None:
    """Plot what [`RewardDriftCallback`] measured over steps, with lines where the rewards part. Requires matplotlib."""
    steps = [row["step"] for row in history]
    panels = {
        "reward in training": "reward",
        "held-out reward": "held_out_reward",
        "KL from the start, nats": "kl",
        "tokens": "length",
        "shift of features": "feature_shift",
        "share without reward": "reward_unanswered",
    }
    with drawn(path, 7, 5) as figure:
        for axes, (label, name) in zip(figure.subplots(3, 2, sharex=True).flat, panels.items(), strict=True):
            axes.plot(steps, [row[name] for row in history], marker="o", markersize=3)
            for row in history:
                if row["parted"]:
                    axes.axvline(row["step"], color=COLORS[1], linewidth=1)
            axes.set_title(label)
        figure.supxlabel("step")
        figure.suptitle(title)
