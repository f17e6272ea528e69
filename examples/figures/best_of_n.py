"""ELHSR: accuracy against tokens, and the reward along two texts."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.figures.style import Theme, draw_intervals, new_figure

CURVES = {  # names of rows, and what is drawn of them
    "best of N": ("ELHSR, best of N", "", "blue"),
    "pruned, half stays": ("ELHSR, pruned", "keep 0.5", "orange"),
    "pruned, a quarter stays": ("ELHSR, pruned", "keep 0.25", "green"),
}
LEVELS = ("length", "oracle")  # of the same 16 candidates


def draw_accuracy_tokens(rows: list[dict], theme: Theme) -> Figure:
    """Draw the accuracy of best of N and of pruning against the tokens of a problem."""
    figure, [axes] = new_figure(8, 4)
    for label, (method, what, color) in CURVES.items():
        found = [row for row in rows if row["method"] == method and what in row["what"]]
        draw_intervals(axes, [(row["tokens"], row["accuracy"]) for row in found], theme[color], label)
    [sample] = [row for row in rows if row["method"] == "one sample"]
    draw_intervals(axes, [(sample["tokens"], sample["accuracy"])], theme["faint"], "one sample")
    for row in rows:
        if row["method"] in LEVELS:
            axes.axhline(row["accuracy"][0], color=theme["faint"], linestyle=":")
            axes.annotate(row["what"], (2000, row["accuracy"][0]), (0, 4), textcoords="offset points", ha="right")
    axes.set_xscale("log", base=2)
    ticks = [32, 64, 128, 256, 512, 1024, 2048]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set(xlabel="tokens per problem", ylabel="accuracy", ylim=(0.2, 1.05))
    axes.legend(loc="lower right")
    return figure


def draw_reward_text(sample: dict, theme: Theme) -> Figure:
    """Draw the reward up to each token of the best and of the worst candidate of a prompt."""
    figure, panels = new_figure(9.5, 4.6, 2, 1)
    for axes, name, color in zip(panels, ("best", "worst"), ("blue", "orange"), strict=True):
        _draw_along(axes, sample[name], theme[color])
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low - 0.3, high + 0.3)
        axes.axhline(0, color=theme["faint"], linewidth=0.8)
    figure.suptitle(sample["prompt"], fontsize=10)
    return figure


def _draw_along(axes: Axes, candidate: dict, color: str) -> None:
    tokens, values = zip(*candidate["tokens"], strict=True)
    axes.plot(range(len(values)), values, color=color, marker="o", markersize=4, linewidth=2)
    axes.set_xticks(range(len(tokens)), [token.strip() for token in tokens], rotation=40, ha="right", fontsize=9)
    axes.set_ylabel("reward so far")
    verdict = "follows" if candidate["is_right"] else "does not follow"
    axes.set_title(f"reward {candidate['reward']:+.2f}; {verdict} the request", color=color, fontsize=10, loc="left")
