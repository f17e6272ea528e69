"""Style of all pictures: one size of text, no frames, transparent, in colors for light and for dark pages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Of the palettes of Okabe and Ito, one for each background.
THEMES = {
    "": {"blue": "#0072b2", "orange": "#d55e00", "green": "#007a5a", "text": "#1c1c1c", "faint": "#767676"},
    "_dark": {"blue": "#56b4e9", "orange": "#e69f00", "green": "#2fbf94", "text": "#e8e8e8", "faint": "#9a9a9a"},
}
Theme = dict[str, str]


@contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """Use the colors of a theme for all text and axes."""
    names = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    style = {
        **dict.fromkeys(names, theme["text"]),
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(style):
        yield


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a transparent figure and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.patch.set_alpha(0)
    for one in axes:
        one.patch.set_alpha(0)
    return figure, axes


def draw_intervals(
    axes: Axes, points: Sequence[tuple[float, Sequence[float]]], color: str, label: str | None = None
) -> None:
    """Draw points `(x, (value, lower, upper))` with their intervals, joined by a line."""
    places, values = [place for place, _ in points], [value[0] for _, value in points]
    below = [value - low for _, (value, low, _) in points]
    above = [high - value for _, (value, _, high) in points]
    axes.errorbar(places, values, yerr=[below, above], color=color, marker="o", capsize=3, label=label)
