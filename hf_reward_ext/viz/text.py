"""Text that shows what it contains: controls and invisible characters by their code points."""

import re

# Controls except tab and newline; marks of direction; characters without width; tags; halves of surrogate pairs.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """
    Return a text whose invisible characters are symbols, so that it can neither hide nor reorder anything.

    Args:
        text (`str`): Any text, of a model or of a user.

    Example:
    ```python
    >>> visible("a\\u202eb\\x00")
    'a⟨U+202E⟩b⟨U+0000⟩'
    ```
    """
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)
