"""
Pictures of the documentation, from kept results: `make figures`, or `python -m examples.figures --output FOLDER`.

Each is drawn for light and for dark pages, in colors that color-blind readers can tell apart.
"""

import argparse
import json
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "examples" / "results" / "demo_llm.json"
# Of the palettes of Okabe and Ito, one for each background.
THEMES = {
    "": {"blue": "#0072b2", "orange": "#d55e00", "text": "#1c1c1c", "faint": "#767676"},
    "_dark": {"blue": "#56b4e9", "orange": "#e69f00", "text": "#e8e8e8", "faint": "#9a9a9a"},
}


def draw_methods(methods: dict, theme: dict[str, str]) -> Figure:
    """Draw what each of the four methods does, one panel each."""
    names = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    style = {
        **dict.fromkeys(names, theme["text"]),
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9.5, 6.2), layout="constrained")
        panels = figure.subplots(2, 2)
        draw_alpha(panels[0, 0], methods["genarm"]["rows"], theme)
        draw_rewards(panels[0, 1], methods["elhsr"]["samples"][0], theme)
        draw_tree(panels[1, 0], methods["sla"]["tree"], theme)
        draw_gate(panels[1, 1], methods["fast_slow"]["rows"], theme)
        for axes in panels.flat:
            axes.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    return figure


def draw_alpha(axes: Axes, rows: list[dict], theme: dict[str, str]) -> None:
    """Draw accuracy against the weight of the guide."""
    found = {row["method"]: row["accuracy"] for row in rows}
    points = [(0.0, found["unguided"])]
    points += [(float(name.split()[1]), value) for name, value in found.items() if name.startswith("alpha")]
    _with_intervals(axes, points, theme["blue"])
    axes.axhline(found["sharpened"][0], color=theme["faint"], linestyle="--")
    axes.annotate("sharpened, no guide", (2, found["sharpened"][0]), (0, 4), textcoords="offset points", ha="right")
    axes.set(title="GenARM: a guide steers each token", xlabel="weight of the guide", ylabel="accuracy", ylim=(0, 0.7))


def draw_rewards(axes: Axes, sample: dict, theme: dict[str, str]) -> None:
    """Draw the reward of the best and of the worst candidate while they are written."""
    for name, color in (("best", theme["blue"]), ("worst", theme["orange"])):
        values = [value for _, value in sample[name]["tokens"]]
        axes.plot(range(1, len(values) + 1), values, color=color, linewidth=2)
        axes.annotate(name, (len(values), values[-1]), (4, 0), textcoords="offset points", color=color, va="center")
    axes.margins(x=0.12)
    axes.set(title="ELHSR: a head scores while the model writes", xlabel="token", ylabel="reward so far")


def draw_tree(axes: Axes, tree: dict, theme: dict[str, str]) -> None:
    """Draw two levels of the search: chunks with their scores, confirmed ones in color."""
    axes.set_axis_off()
    axes.set(title="SLA: look ahead, then confirm a chunk", xlim=(0, 1), ylim=(0, 1))
    axes.text(0, 0.5, tree["text"].strip(), va="center", fontsize=8.5)
    for child, height in zip(tree["children"], (0.25, 0.75), strict=True):
        _draw_chunk(axes, child, (0.33, height), theme, (0.29, 0.5))
        for leaf, offset in zip(child["children"][:2], (-0.13, 0.13), strict=True):
            _draw_chunk(axes, leaf, (0.72, height + offset), theme, (0.68, height))


def _draw_chunk(
    axes: Axes, node: dict, place: tuple[float, float], theme: dict[str, str], start: tuple[float, float] | None = None
) -> None:
    color = theme["blue"] if node["is_confirmed"] else theme["faint"]
    text = node["text"].strip()
    text = text if len(text) <= 21 else f"{text[:20].rsplit(' ', 1)[0]} …"
    label = f"{text}\n{node['score']:+.2f}{' confirmed' if node['is_confirmed'] else ''}"
    axes.text(*place, label, color=color, va="center", fontsize=8.5)
    if start is not None:
        axes.plot([start[0], place[0] - 0.01], [start[1], place[1]], color=color, linewidth=1.2)


def draw_gate(axes: Axes, rows: list[dict], theme: dict[str, str]) -> None:
    """Draw accuracy against tokens for the paths of a judge."""
    for row in rows:
        color = theme["blue"] if row["method"] == "gated" else theme["faint"]
        _with_intervals(axes, [(row["tokens"], row["accuracy"])], color)
        label = f"{row['method']}:\n{row['written']:.0%} written"
        place = (row["tokens"], row["accuracy"][2])
        axes.annotate(label, place, (0, 5), textcoords="offset points", ha="center")
    axes.axhline(0.5, color=theme["faint"], linestyle=":")
    axes.set(title="Fast-Slow: write only if unsure", xlabel="tokens per decision", ylabel="accuracy", ylim=(0.4, 0.95))
    axes.set_xlim(-30, 135)
    axes.set_xticks([0, 25, 50, 75, 100])


def _with_intervals(axes: Axes, points: list[tuple[float, list[float]]], color: str) -> None:
    places, values = [place for place, _ in points], [value[0] for _, value in points]
    below = [value - low for _, (value, low, _) in points]
    above = [high - value for _, (value, _, high) in points]
    axes.errorbar(places, values, yerr=[below, above], color=color, marker="o", capsize=3)


def main(arguments: list[str] | None = None) -> list[Path]:
    """Draw all pictures, and return their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "figures")
    args = parser.parse_args(arguments)
    methods = json.loads(RESULTS.read_text(encoding="utf-8"))["methods"]
    args.output.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, theme in THEMES.items():
        paths.append(args.output / f"methods{suffix}.png")
        draw_methods(methods, theme).savefig(paths[-1], dpi=120, metadata={"Software": None})
    return paths


if __name__ == "__main__":
    for path in main():
        print(path)
