"""Picture of the landing page: what each of the four methods does."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.figures.style import Theme, draw_intervals, new_figure


def draw_methods(methods: dict, theme: Theme) -> Figure:
    """Draw one panel for each method."""
    figure, panels = new_figure(9.5, 6.2, 2, 2)
    draw_alpha(panels[0], methods["genarm"]["rows"], theme)
    draw_rewards(panels[1], methods["elhsr"]["samples"][0], theme)
    draw_tree(panels[2], methods["sla"]["tree"], theme)
    draw_gate(panels[3], methods["fast_slow"]["rows"], theme)
    return figure


def draw_alpha(axes: Axes, rows: list[dict], theme: Theme) -> None:
    """Draw accuracy against the weight of the guide."""
    found = {row["method"]: row["accuracy"] for row in rows}
    points = [(0.0, found["unguided"])]
    points += [(float(name.split()[1]), value) for name, value in found.items() if name.startswith("alpha")]
    draw_intervals(axes, points, theme["blue"])
    axes.axhline(found["sharpened"][0], color=theme["faint"], linestyle="--")
    axes.annotate("sharpened, no guide", (2, found["sharpened"][0]), (0, 4), textcoords="offset points", ha="right")
    axes.set(title="GenARM: a guide steers each token", xlabel="weight of the guide", ylabel="accuracy", ylim=(0, 0.7))


def draw_rewards(axes: Axes, sample: dict, theme: Theme) -> None:
    """Draw the reward of the best and of the worst candidate while they are written."""
    for name, color in (("best", theme["blue"]), ("worst", theme["orange"])):
        values = [value for _, value in sample[name]["tokens"]]
        axes.plot(range(1, len(values) + 1), values, color=color, linewidth=2)
        axes.annotate(name, (len(values), values[-1]), (4, 0), textcoords="offset points", color=color, va="center")
    axes.margins(x=0.12)
    axes.set(title="ELHSR: a head scores while the model writes", xlabel="token", ylabel="reward so far")


def draw_tree(axes: Axes, tree: dict, theme: Theme) -> None:
    """Draw two levels of the search: chunks with their scores, confirmed ones in color."""
    axes.set_axis_off()
    axes.set(title="SLA: look ahead, then confirm a chunk", xlim=(0, 1), ylim=(0, 1))
    axes.text(0, 0.5, tree["text"].strip(), va="center", fontsize=8.5)
    for child, height in zip(tree["children"], (0.25, 0.75), strict=True):
        _draw_chunk(axes, child, (0.33, height), theme, (0.29, 0.5))
        for leaf, offset in zip(child["children"][:2], (-0.13, 0.13), strict=True):
            _draw_chunk(axes, leaf, (0.72, height + offset), theme, (0.68, height))


def _draw_chunk(axes: Axes, node: dict, place: tuple[float, float], theme: Theme, start: tuple[float, float]) -> None:
    color = theme["blue"] if node["is_confirmed"] else theme["faint"]
    text = node["text"].strip()
    text = text if len(text) <= 21 else f"{text[:20].rsplit(' ', 1)[0]} …"
    label = f"{text}\n{node['score']:+.2f}{' confirmed' if node['is_confirmed'] else ''}"
    axes.text(*place, label, color=color, va="center", fontsize=8.5)
    axes.plot([start[0], place[0] - 0.01], [start[1], place[1]], color=color, linewidth=1.2)


def draw_gate(axes: Axes, rows: list[dict], theme: Theme) -> None:
    """Draw accuracy against tokens for the paths of a judge."""
    for row in rows:
        color = theme["blue"] if row["method"] == "gated" else theme["faint"]
        draw_intervals(axes, [(row["tokens"], row["accuracy"])], color)
        label = f"{row['method']}:\n{row['written']:.0%} written"
        place = (row["tokens"], row["accuracy"][2])
        axes.annotate(label, place, (0, 5), textcoords="offset points", ha="center")
    axes.axhline(0.5, color=theme["faint"], linestyle=":")
    axes.set(title="Fast-Slow: write only if unsure", xlabel="tokens per decision", ylabel="accuracy", ylim=(0.4, 0.95))
    axes.set_xlim(-30, 135)
    axes.set_xticks([0, 25, 50, 75, 100])
