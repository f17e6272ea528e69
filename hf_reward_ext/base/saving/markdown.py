"""Escaping of names, settings and scores in Markdown cards and tables."""

import re

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
