"""Style of all plots of the package, written without a display: colors, markers, intervals."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_reward_ext.base.stats.intervals import Estimate

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # of Okabe and Ito: distinct for color-blind readers
MARKERS = ("o", "s", "^", "D")
GRAY = "0.55"
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
}


@contextmanager
def drawn(path: str | Path, width: float, height: float) -> Iterator[Any]:
    """
    Yield a figure in the style of the package, and write it at the end.

    Args:
        path (`str` or `Path`): File to write; its ending is the format.
        width, height (`float`): Size in inches.

    Raises:
        ImportError: Without matplotlib.
    """
    try:
        from cycler import cycler
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "matplotlib is not installed, but plots need it. Run `pip install hf_reward_ext[plot]`."
        ) from error
    with rc_context(_STYLE | {"axes.prop_cycle": cycler(color=COLORS)}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, dpi=180)


def draw_intervals(
    axes: Any, places: Sequence, estimates: Sequence[Estimate], color: str, horizontal: bool = False, **options: Any
) -> None:
    """
    Draw estimates with their intervals; one without a width is hollow and has no bar, since it is no certainty.

    Args:
        axes (`matplotlib.axes.Axes`): Axes to draw on.
        places (`list`): Places on the other axis.
        estimates (`list` of [`Estimate`]): Values with intervals.
        color (`str`): Color of points and bars.
        horizontal (`bool`, *optional*, defaults to `False`): Whether values are on the horizontal axis.
        **options: Further options of `axes.errorbar` (`marker`, `label`, `linestyle`).
    """
    for hollow in (False, True):
        some = [number for number, one in enumerate(estimates) if (one.upper == one.lower) == hollow]
        values = [estimates[number].value for number in some]
        across = [places[number] for number in some]
        below = [estimates[number].value - estimates[number].lower for number in some]
        above = [estimates[number].upper - estimates[number].value for number in some]
        if hollow:
            options = {**options, "markerfacecolor": "white", "label": None}
        if some:
            xs, ys = (values, across) if horizontal else (across, values)
            bars = {} if hollow else {"xerr" if horizontal else "yerr": [below, above], "capsize": 2.5}
            axes.errorbar(xs, ys, color=color, **{"marker": "o", "linestyle": "none", **bars, **options})


def join_equal(series: Mapping[str, Sequence]) -> dict[str, Sequence]:
    """
    Return series by name, where equal ones are one series with all their names, so that none hides another.

    Example:
    ```python
    >>> join_equal({"both": [1, 2], "one": [1, 2], "other": [3]})
    {'both = one': [1, 2], 'other': [3]}
    ```
    """
    joined: list[tuple[list[str], Sequence]] = []
    for name, points in series.items():
        names = next((names for names, others in joined if list(others) == list(points)), None)
        if names is None:
            joined.append(([name], points))
        else:
            names.append(name)
    return {" = ".join(names): points for names, points in joined}


def range_around(values: Sequence[float], least: float = 0.4) -> tuple[float, float]:
    """
    Return limits of an axis of shares that holds all values, and is not narrower than `least`.

    Example:
    ```python
    >>> range_around([0.25, 0.31])
    (0.08, 0.48)
    ```
    """
    low, high = min(values) - 0.02, max(values) + 0.02
    missing = max(0.0, least - (high - low)) / 2
    low, high = low - missing, high + missing
    shift = max(0.0, -0.02 - low) - max(0.0, high - 1.02)
    return round(max(-0.02, low + shift), 3), round(min(1.02, high + shift), 3)
