"""Page `index.html` with tables, plot and texts of the tour, self-contained."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.viz.cards import color
from hf_reward_ext.viz.template import render

TITLES = {
    "genarm": "GenARM: guided sampling",
    "elhsr": "ELHSR: best of N",
    "sla": "SLA: look-ahead",
    "fast_slow": "Fast-Slow: pairs judged",
}
# Of the palette of Okabe and Ito, which color-blind readers can tell apart.
_BLUE, _ORANGE, _GRAY = "#0072b2", "#d55e00", "#bbbbbb"


def write_page(folder: Path, report: dict) -> Path:
    """
    Write the page of a finished tour.

    Args:
        folder (`Path`): Output folder.
        report (`dict`): Content of `results.json`.
    """
    for sample in report["methods"]["elhsr"]["samples"]:
        _color(sample["best"], sample["worst"])
    text = render(
        "page.html.j2",
        Path(__file__).parent,
        title=f"Four reward models on {report['model']}",
        plot="data:image/png;base64," + base64.b64encode(plot(report["methods"])).decode(),
        tree=list(_nodes(report["methods"]["sla"]["tree"]["children"])),
        **report,
    )
    replace_text(folder / "index.html", text)
    return folder / "index.html"


def _color(*texts: dict) -> None:
    """Add the colors of tokens: the distance of the running reward to the mean of the texts."""
    traces = []
    for index, text in enumerate(texts):
        pieces, values = zip(*text["tokens"], strict=True) if text["tokens"] else ((), ())
        traces.append({"index": index, "tokens": pieces, "values": values})
    for index, tokens in color(traces, around_mean=True).items():
        texts[index]["colored"] = tokens


def _nodes(children: list[dict], depth: int = 0) -> Iterator[dict]:
    """Return the nodes of a tree, depth first."""
    for child in children:
        yield {**child, "depth": depth}
        yield from _nodes(child["children"], depth + 1)


def plot(methods: dict) -> bytes:
    """Return a PNG figure with one panel per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, TITLES.items(), strict=True):
        rows = methods[name]["rows"]
        values = [row["accuracy"][0] for row in rows]
        errors = [
            [row["accuracy"][0] - row["accuracy"][1] for row in rows],
            [row["accuracy"][2] - row["accuracy"][0] for row in rows],
        ]
        colors = [_BLUE if _is_ours(row["method"]) else _GRAY for row in rows]
        axes.barh([row["method"] for row in rows], values, xerr=errors, color=colors, error_kw={"capsize": 2})
        axes.invert_yaxis()
        axes.set(title=title, xlim=(0, 1.02), xlabel="accuracy")
    target = io.BytesIO()
    figure.savefig(target, dpi=110)
    return target.getvalue()


def _is_ours(method: str) -> bool:
    return method in ("ELHSR", "look-ahead", "gated") or method.startswith("alpha")
