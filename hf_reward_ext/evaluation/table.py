"""Conversion of estimates to a dataset and to Markdown."""

from collections.abc import Mapping

from datasets import Dataset

from hf_reward_ext.base.saving.markdown import escape_markdown
from hf_reward_ext.base.stats.intervals import Estimate


def estimates_to_dataset(estimates: Mapping[str, Estimate]) -> Dataset:
    """Return a row per estimate: `name`, `value`, `lower`, `upper`."""
    return Dataset.from_list([{"name": name, **estimate._asdict()} for name, estimate in estimates.items()])


def estimates_to_markdown(estimates: Mapping[str, Estimate], what: str) -> str:
    """
    Return a table in percent.

    Args:
        estimates (`dict` from `str` to [`Estimate`]): Rows of the table.
        what (`str`): Sentence above the table.

    Example:
    ```python
    >>> print(estimates_to_markdown({"accuracy": Estimate(0.5, 0.25, 0.75)}, "Two rows."))
    ```
    """
    lines = [
        f"| {escape_markdown(name)} | {100 * one.value:.1f} | {100 * one.lower:.1f} to {100 * one.upper:.1f} |"
        for name, one in estimates.items()
    ]
    return "\n".join([what, "", "| | % | interval |", "|---|---:|---:|", *lines, ""])
