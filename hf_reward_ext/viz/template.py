"""Templates of all pages of this library: one style, everything escaped, nothing loaded from elsewhere."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hf_reward_ext.viz.text import visible


def render(name: str, folder: str | Path | None = None, **values: Any) -> str:
    """
    Return the page of a template.

    Args:
        name (`str`): Name of the template, which extends `base.html.j2`.
        folder (`str` or `Path`, *optional*): Folder of the template. Default: that of this package.
        **values: Values of the template. Text is escaped, and its invisible characters are shown.

    Example:
    ```python
    >>> render("page.html.j2", Path(__file__).parent, title="Results", rows=rows)
    ```
    """
    own = str(files("hf_reward_ext.viz"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([own] if folder is None else [str(folder), own]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((files("hf_reward_ext.viz") / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(name).render(style=style, **values)


def _show(value: Any) -> Any:
    """Return what an expression of a template shows; markup of macros is kept."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)
