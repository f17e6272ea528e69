"""Plots of the demo: one file for each method."""

from importlib.util import find_spec
from pathlib import Path

from hf_reward_ext.base.saving.atomic import replace_file
from hf_reward_ext.demo.comparison import Comparison, Way
from hf_reward_ext.evaluation.plots import Point, plot_estimates, plot_trade_off


def plot_comparisons(comparisons: list[Comparison], folder: Path) -> dict[tuple[str, str], Path]:
    """Write a plot of each task of each method, and return their paths; none without matplotlib."""
    if find_spec("matplotlib") is None:
        print("No plots: install the extra with `pip install 'hf_reward_ext[plot]'`.")
        return {}
    found = {}
    for comparison in comparisons:
        for number, task in enumerate(comparison.tasks):
            suffix = f"-{number + 1}" if number else ""
            path = folder / f"{comparison.method.lower()}{suffix}.png"
            ways = [way for way in comparison.ways if way.task == task]
            replace_file(path, lambda draft, ways=ways, of=comparison, task=task: _plot(ways, of, task, draft))
            found[comparison.method, task] = path
    return found


def _plot(ways: list[Way], comparison: Comparison, task: str, path: Path) -> None:
    title = f"{comparison.method}: {task}"
    curves = [way for way in ways if way.series]
    if not curves:
        highlight = [way.name for way in ways if comparison.method in way.name]
        plot_estimates({way.name: way.accuracy for way in ways}, path, title, highlight)
        return
    series: dict[str, list[Point]] = {}
    for way in curves:
        series.setdefault(way.series, []).append(Point(float(way.x or 0), way.accuracy, way.name))
    plot_trade_off(series, path, comparison.axes[task], title)
