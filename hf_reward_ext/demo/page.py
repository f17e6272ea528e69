"""Self-contained HTML page of the demo: tables, plots and sample texts of every method."""

import base64
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.demo.comparison import Comparison, Example, SampleText, Way

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
    style = (files("hf_reward_ext.demo") / "page.css").read_text(encoding="utf-8")
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    about = f"{report['date']}, seed {report['seed']}, {report['seconds']:.0f} s, {versions}"
    links = "".join(f'<a href="#{_anchor(one.method)}">{escape(one.method)}</a>' for one in comparisons)
    sections = "".join(_section(comparison, plots) for comparison in comparisons)
    replace_text(
        path,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<header>\n<h1>{TITLE}</h1>\n<p>{escape(TASKS)}</p>\n<p>{escape(about)}. {INTERVALS}</p>\n"
        f"<nav>{links}</nav>\n</header>\n<main>\n{sections}</main>\n</body>\n</html>\n",
    )


def _section(comparison: Comparison, plots: dict) -> str:
    parts = "".join(
        _task([way for way in comparison.ways if way.task == task], task, plots.get((comparison.method, task)))
        for task in comparison.tasks
    )
    examples = "".join(_example(example) for example in comparison.examples)
    shown = f"<h3>Sample texts</h3>\n{examples}" if examples else ""
    return (
        f'<section id="{_anchor(comparison.method)}">\n<h2>{escape(comparison.method)}</h2>\n'
        f"<p>{escape(comparison.question)}</p>\n{parts}{shown}</section>\n"
    )


def _task(ways: list[Way], task: str, plot: Path | None) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("way", "accuracy [95 %]", "tokens"))
    rows = "".join(_row(way) for way in ways)
    return (
        f'<h3>{escape(task)}</h3>\n<div class="task">{_image(plot, task)}<div class="table"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div></div>\n"
    )


def _row(way: Way) -> str:
    kind = ' class="oracle"' if way.is_oracle else ""
    return (
        f"<tr{kind}><td>{escape(way.name)}<small>{escape(way.what)}</small></td>"
        f"<td>{escape(str(way.accuracy))}</td><td>{way.tokens:.0f}</td></tr>\n"
    )


def _image(plot: Path | None, task: str) -> str:
    if plot is None:
        return ""
    data = base64.b64encode(plot.read_bytes()).decode()
    return f'<img alt="Plot: {escape(task)}" src="data:image/png;base64,{data}">'


def _example(example: Example) -> str:
    texts = "".join(_text(text) for text in example.texts)
    return f'<div class="example"><p class="prompt">{escape(example.prompt)}</p>\n{texts}</div>\n'


def _text(text: SampleText) -> str:
    verdict, kind = ("right", "right") if text.is_right else ("wrong", "wrong")
    remark = f", {text.remark}" if text.remark else ""
    return (
        f'<p class="{kind}"><b>{escape(text.name)}</b> <span>{verdict}{escape(remark)}</span> '
        f"<code>{escape(text.text)}</code></p>\n"
    )


def _anchor(method: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in method.lower())
