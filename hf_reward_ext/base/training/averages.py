"""Weighted means of logged values, exact for any batch sizes."""

from collections.abc import Iterable


class Averages:
    """
    Running sums by name.

    Example:
    ```python
    >>> averages = Averages()
    >>> averages.add("accuracy", [1.0, 0.0], [1, 1])
    >>> averages.pop()
    {'accuracy': 0.5}
    ```
    """

    def __init__(self):
        self._sums: dict[str, list[float]] = {}

    def add(self, name: str, values: Iterable[float], counts: Iterable[float]) -> None:
        """
        Add sums over items to a mean.

        Args:
            name (`str`): Name of the mean.
            values (`list[float]`): Sums over the items of each row.
            counts (`list[float]`): Number of items of each row.
        """
        total = self._sums.setdefault(name, [0.0, 0.0])
        total[0] += sum(values)
        total[1] += sum(counts)

    def pop(self) -> dict[str, float]:
        """Return the means since the last call; names without items are left out."""
        means = {name: total / count for name, (total, count) in self._sums.items() if count}
        self._sums = {}
        return means
