"""Page `index.html` with tables, plot and texts of the tour, self-contained."""

import base64
import io
from pathlib import Path

import jinja2

from hf_reward_ext.base.saving.atomic import replace_text

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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    image = "data:image/png;base64," + base64.b64encode(plot(report["methods"])).decode()
    text = environment.get_template("page.html.j2").render(**report, plot=image)
    replace_text(folder / "index.html", text)
    return folder / "index.html"


def _color(*texts: dict) -> None:
    """Add the background of each token: the distance of its running reward to the mean of the texts."""
    values = [value for text in texts for _, value in text["tokens"]]
    middle = sum(values) / max(len(values), 1)
    largest = max((abs(value - middle) for value in values), default=0.0) or 1.0
    for text in texts:
        text["colored"] = [
            (piece, _background((value - middle) / largest), f"{value:+.2f}") for piece, value in text["tokens"]
        ]


def _background(share: float) -> str:
    color = _BLUE if share > 0 else _ORANGE
    return f"{color}{round(abs(share) * 150):02x}"


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
