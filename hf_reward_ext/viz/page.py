"""A page of rows that a command wrote."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hf_reward_ext.base.saving.atomic import check_target, replace_text
from hf_reward_ext.viz.candidates import read_candidates, read_completions
from hf_reward_ext.viz.cards import Card
from hf_reward_ext.viz.judgments import read_judgment, summarize_judgments
from hf_reward_ext.viz.template import render

MOST_ROWS = 200  # a browser shows them at once


class _Kind(NamedTuple):
    """Rows of a command: their columns, their reader, and what a page explains about them and about colors."""

    columns: frozenset[str]
    read: Callable[[Mapping[str, Any]], Card]
    note: str
    legend: str = ""
    summarize: Callable[[Sequence[Mapping[str, Any]]], str] | None = None


_KINDS = {
    "Judgments": _Kind(
        frozenset({"prompt", "probability", "mode"}),
        read_judgment,
        "The share of a response is the judge's probability that it is the better one (or that a single one is good). "
        "A fast verdict is one token (in each order of the responses); it is kept if both of its confidences, "
        "intuition and distribution, reach the thresholds of the gate.",
        summarize=summarize_judgments,
    ),
    "Candidates": _Kind(
        frozenset({"prompt", "completions", "rewards"}),
        read_candidates,
        "Candidates of each prompt, best first, with their rewards.",
        "Color is the reward at each token: blue above and orange below the mean of the card.",
    ),
    "Completions": _Kind(
        frozenset({"prompt", "num_tokens"}),
        read_completions,
        "",
        "Color is the change by the guides in the log-probability of each token: blue raised, orange lowered.",
    ),
}


def write_html(path: str | Path, rows: Iterable[Mapping[str, Any]], *, title: str | None = None) -> int:
    """
    Write a self-contained page of rows of `bon`, `generate` or `judge`.

    The page needs no other file, server or script, and opens without a network. All text is escaped; control
    characters and marks of direction are shown as symbols.

    Args:
        path (`str` or `Path`): Path of the page.
        rows (iterable of `dict`): Rows as these commands write them. Rows with `traces` have colored tokens, rows
            with a `tree` show the search.
        title (`str`, *optional*): Title. Default: the kind of the rows.

    Returns:
        Number of rows on the page, at most 200.

    Raises:
        ValueError: If there are no rows, or rows of another kind.

    Example:
    ```python
    >>> write_html("page.html", Dataset.from_json("candidates.jsonl"))
    12
    ```
    """
    check_target(path)
    rest = iter(rows)
    shown = list(itertools.islice(rest, MOST_ROWS))
    if not shown:
        raise ValueError("`rows` must have a row to show, got none. Pass rows of `bon`, `generate` or `judge`.")
    name, kind = _find_kind(shown[0])
    for number, row in enumerate(shown):
        missing = sorted(kind.columns - set(row))
        if missing:
            raise ValueError(
                f"Row {number} must have the columns of row 0, but it lacks {missing}. Pass rows of one kind."
            )
    cards = [kind.read(row) for row in shown]
    has_color = any(answer.tokens for card in cards for answer in card.answers)
    text = render(
        "rows.html.j2",
        title=title or name,
        cards=cards,
        num_rows=len(shown) + sum(1 for _ in rest),
        note=f"{kind.summarize(shown)} {kind.note}" if kind.summarize else kind.note,
        legend=kind.legend if has_color else "",
    )
    replace_text(path, text)
    return len(shown)


def _find_kind(row: Mapping[str, Any]) -> tuple[str, _Kind]:
    for name, kind in _KINDS.items():
        has_text = name != "Completions" or {"completion", "completions"} & set(row)
        is_ranked = name != "Candidates" or "alphas" not in row  # texts of several weights have rewards, but no order
        if kind.columns <= set(row) and has_text and is_ranked:
            return name, kind
    raise ValueError(
        f"`rows` must be rows of `bon` (`--as all`), `generate` or `judge`, got the columns {sorted(row)}. Pass such "
        "rows."
    )
