"""Markdown of cards and tables, with names, settings and scores escaped."""

import re
from collections.abc import Mapping, Sequence

_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|])")


def escape_markdown(text: object) -> str:
    r"""
    Escape text so that Markdown and HTML show it unchanged, on one line.

    Example:
    ```python
    >>> escape_markdown("a|b <i>")
    'a\\|b \\<i\\>'
    ```
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    r"""
    Return rows as a table; the columns are those of the first row.

    Args:
        rows (`list` of `dict`): Rows of values, at least one.

    Example:
    ```python
    >>> markdown_table([{"prompt": "2+2=", "reward": 0.5}])
    '| prompt | reward |\n|---|---|\n| 2+2= | 0.5 |'
    ```
    """
    names = list(rows[0])
    lines = [[_cell(row.get(name)) for name in names] for row in rows]
    head = [f"| {' | '.join(map(escape_markdown, names))} |", f"|{'---|' * len(names)}"]
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)])


def _cell(value: object) -> str:
    return escape_markdown(f"{value:.4g}" if isinstance(value, float) else "" if value is None else value)
