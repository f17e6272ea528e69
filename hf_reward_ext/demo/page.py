"""Self-contained HTML page of the demo: tables, plots and sample texts of every method."""

import base64
from pathlib import Path
from typing import Any

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.demo.comparison import Comparison
from hf_reward_ext.viz.template import render

TITLE = "Four reward methods on the demo policy"
TASKS = (
    "The policy has 0.6 million parameters and two tasks. Walk: w18 4 2 9 1 5 3| is a start on the line 0 to 39 and "
    "six step sizes; each step is written as size, sign, cell, and . or x. A walk is right if no cell is a multiple of "
    "3 or 5. Arithmetic: 6 1 3 3=12| asks for + - * between the numbers, from left to right; / begins another attempt."
)
INTERVALS = "Intervals: 95 %, bootstrap over held-out problems."


def write_page(path: Path, comparisons: list[Comparison], report: dict[str, Any], plots: dict) -> None:
    """
    Write the page; all text is escaped, and plots are part of it.

    Args:
        path (`Path`): Path of the page.
        comparisons (`list[Comparison]`): Comparison of each method.
        report (`dict`): Date, seed, versions and seconds of the run.
        plots (`dict` from `(method, task)` to `Path`): Plots, which may be missing.
    """
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    about = f"{report['date']}, seed {report['seed']}, {report['seconds']:.0f} s, {versions}. {INTERVALS}"
    sections = [_section(comparison, plots) for comparison in comparisons]
    replace_text(
        path, render("page.html.j2", Path(__file__).parent, title=TITLE, tasks=TASKS, about=about, sections=sections)
    )


def _section(comparison: Comparison, plots: dict) -> dict[str, Any]:
    tasks = [
        {
            "name": task,
            "ways": [way for way in comparison.ways if way.task == task],
            "image": _image(plots.get((comparison.method, task))),
        }
        for task in comparison.tasks
    ]
    return {
        "method": comparison.method,
        "anchor": _anchor(comparison.method),
        "question": comparison.question,
        "tasks": tasks,
        "examples": comparison.examples,
    }


def _image(plot: Path | None) -> str:
    return "" if plot is None else base64.b64encode(plot.read_bytes()).decode()


def _anchor(method: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in method.lower())
