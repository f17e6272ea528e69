"""Fast-Slow: the gate of a judge, and the reliability of both paths."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from examples.figures.style import Theme, new_figure
from hf_reward_ext.base.stats.calibration import reliability


def draw_judge(judge: dict, theme: Theme) -> Figure:
    """Draw both confidences of each decision with the thresholds, and accuracy against confidence."""
    figure, [left, right] = new_figure(9.5, 3.9, 1, 2)
    draw_confidences(left, judge, theme)
    draw_reliability(right, judge, theme)
    return figure


def draw_confidences(axes: Axes, judge: dict, theme: Theme) -> None:
    """Draw the decisions of the fast path; those outside of the shaded corner are judged in writing."""
    is_right = np.array(judge["fast"]) > 0.5
    intuition, distribution = np.array(judge["intuition"]), np.array(judge["distribution"])
    kept = (judge["intuition_threshold"], judge["distribution_threshold"])
    top = 1.3 * distribution.max()
    axes.add_patch(Rectangle(kept, 1.02 - kept[0], top - kept[1], color=theme["faint"], alpha=0.18, linewidth=0))
    for chosen, label, color, marker in ((is_right, "right", "blue", "o"), (~is_right, "wrong", "orange", "X")):
        axes.scatter(
            intuition[chosen], distribution[chosen], s=24, color=theme[color], marker=marker,
            label=f"fast verdict {label}", linewidth=0,
        )  # fmt: skip
    axes.set(xlabel="intuition: confidence in the decision", ylabel="distribution: in the scores")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02 * top, top))
    axes.set_title("Gate: shaded verdicts stay fast", fontsize=10)
    axes.legend(loc="upper right")


def draw_reliability(axes: Axes, judge: dict, theme: Theme) -> None:
    """Draw accuracy against confidence; the size of a point is its share of the decisions."""
    axes.plot([0.5, 1], [0.5, 1], color=theme["faint"], linestyle="--", label="calibrated")
    for path, color, marker in (("fast", "blue", "o"), ("slow", "orange", "s")):
        values = np.array(judge[path])
        table = reliability(values, np.ones(len(values)), 5)
        x, y, share = zip(*table, strict=True)
        axes.plot(x, y, color=theme[color], linewidth=1.5)
        axes.scatter(x, y, s=[30 + 300 * one for one in share], color=theme[color], marker=marker, label=path)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0.48, 1.02), ylim=(0, 1.05))
    axes.set_title("Reliability of both paths; size: share of decisions", fontsize=10)
    axes.legend(loc="lower right")
