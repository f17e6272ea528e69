"""SLA: the tree of a search."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples.figures.style import Theme, new_figure

DEEPEST = 3
WIDEST = 30  # characters of a chunk


def draw_search_tree(tree: dict, theme: Theme) -> Figure:
    """Draw chunks with the scores of their best leaves; confirmed chunks are in color."""
    figure, [axes] = new_figure(9.5, 3.8)
    axes.set_axis_off()
    leaves = _count_leaves(tree)
    _draw_node(axes, tree, 0, 0, theme)
    axes.set(xlim=(-0.02, DEEPEST + 0.95), ylim=(leaves - 0.5, -0.5))
    axes.set_title(f"{tree['prompt']} Confirmed chunks are blue.", fontsize=10, loc="left")
    return figure


def _children(node: dict, depth: int) -> list[dict]:
    return node["children"] if depth < DEEPEST else []


def _count_leaves(node: dict, depth: int = 0) -> int:
    return sum(_count_leaves(child, depth + 1) for child in _children(node, depth)) or 1


def _draw_node(axes: Axes, node: dict, depth: int, first: float, theme: Theme) -> float:
    """Draw a node and its descendants from the height `first` on, and return the height of the node."""
    heights, start = [], first
    for child in _children(node, depth):
        heights.append(_draw_node(axes, child, depth + 1, start, theme))
        start += _count_leaves(child, depth + 1)
    height = sum(heights) / len(heights) if heights else first
    color = theme["blue"] if node["is_confirmed"] else theme["faint"]
    text = node["text"].strip()
    text = text if len(text) <= WIDEST else f"{text[:WIDEST].rsplit(' ', 1)[0]} …"
    axes.text(depth, height, f"{text}\n{node['score']:+.2f}", color=color, va="center", fontsize=9)
    for child, end in zip(_children(node, depth), heights, strict=True):
        line = theme["blue"] if child["is_confirmed"] else theme["faint"]
        axes.plot([depth + 0.87, depth + 0.98], [height, end], color=line, linewidth=1.3)
    return height
