"""Text from outside in Markdown that we write: names, settings and scores in cards and tables."""

import re

_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|])")


def escape_markdown(text: object) -> str:
    r"""
    One line of text that Markdown and HTML show as it is.

    Example:
    ```python
    >>> escape_markdown("a|b <i>")
    'a\\|b \\<i\\>'
    ```
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
