"""Names that other installed packages add, as entry points of the groups `hf_reward_ext.rewards` and so on."""

from importlib.metadata import EntryPoint, entry_points
from typing import Literal

Kind = Literal["rewards", "benchmarks", "generators"]


def find_plugin(kind: Kind, name: str) -> EntryPoint | None:
    """
    Return the entry point of a name, without loading it.

    Args:
        kind (`str`): Kind of the name: `"rewards"`, `"benchmarks"` or `"generators"`.
        name (`str`): Name that an installed package declares.

    Raises:
        ValueError: If several packages declare the name for different things.

    Example:
    ```python
    >>> find_plugin("rewards", "shortest").load()(["a"], ["bc"])
    [-2]
    ```
    """
    found = {entry.value: entry for entry in entry_points(group=f"hf_reward_ext.{kind}", name=name)}
    if len(found) > 1:
        raise ValueError(
            f"The name {name!r} must be declared by one package in `hf_reward_ext.{kind}`, got {sorted(found)}. "
            "Uninstall the others."
        )
    return next(iter(found.values()), None)


def plugin_value(kind: Kind, name: str | None) -> str | None:
    """Return `MODULE:FUNCTION` of a declared name, and any other name as it is."""
    entry = find_plugin(kind, name) if name else None
    return name if entry is None else entry.value


def plugin_names(kind: Kind) -> list[str]:
    """Return the names that installed packages declare."""
    return sorted({entry.name for entry in entry_points(group=f"hf_reward_ext.{kind}")})
