"""GenARM: guided texts with the effect of the guide on each token."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from examples.figures.style import Theme, new_figure

COLUMNS = 88  # characters of a line


def draw_guided_text(samples: list[dict], theme: Theme) -> Figure:
    """Draw the tilt of each token: blue tokens were raised by the guide, orange ones lowered."""
    lines = [line for sample in samples for line in _lines(sample["tokens"], sample["values"])]
    figure, panels = new_figure(9.5, 1.15 * len(lines) + 0.25 * len(samples), len(lines), 1)
    most = max(abs(value) for sample in samples for value in sample["values"])
    rest = iter(panels)
    for sample in samples:
        for number, line in enumerate(_lines(sample["tokens"], sample["values"])):
            axes = next(rest)
            _draw_line(axes, line, most, theme)
            if number == 0:
                axes.set_title(sample["prompt"], fontsize=10, loc="left")
    figure.supylabel("tilt, nats", fontsize=10)
    return figure


def _lines(tokens: Sequence[str], values: Sequence[float]) -> list[list[tuple[str, float]]]:
    lines: list[list[tuple[str, float]]] = [[]]
    for token, value in zip(tokens, values, strict=True):
        if sum(len(text) for text, _ in lines[-1]) + len(token) > COLUMNS:
            lines.append([])
        lines[-1].append((token, value))
    return lines


def _draw_line(axes: Axes, line: list[tuple[str, float]], most: float, theme: Theme) -> None:
    place = 0
    for token, value in line:
        color = theme["blue"] if value > 0 else theme["orange"]
        axes.add_patch(Rectangle((place, 0), len(token), value, color=color, alpha=0.85, linewidth=0))
        fill = to_rgba(color, 0.55 * min(1.0, abs(value) / most * 1.5))
        axes.add_patch(Rectangle((place, -2.1 * most), len(token), 0.9 * most, color=fill, linewidth=0))
        axes.text(place, -1.65 * most, token, family="monospace", fontsize=10, va="center", ha="left")
        place += len(token)
    axes.axhline(0, color=theme["faint"], linewidth=0.8, xmax=place / COLUMNS)
    axes.set(xlim=(0, COLUMNS), ylim=(-2.2 * most, 1.05 * most))
    axes.set_xticks([])
    axes.set_yticks([-round(most), 0, round(most)])
    axes.spines[["left", "bottom"]].set_visible(False)
