"""Values of the most recently used keys."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from hf_reward_ext.base.options import check_count

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """
    Cache of computed values; the least recently used ones are dropped.

    Args:
        size (`int`): Maximum number of values; 0 keeps none.

    Raises:
        ValueError: If the size is negative.

    Example:
    ```python
    >>> cache = Recent(100)
    >>> cache.look_up(["a", "bb"], lambda keys: [len(key) for key in keys])
    ([1, 2], 0.0)
    ```
    """

    def __init__(self, size: int):
        check_count("cache_size", size, least=0)
        self.size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def look_up(
        self, keys: Sequence[Key], compute: Callable[[list[Key]], Sequence[Value]]
    ) -> tuple[list[Value], float]:
        """
        Return the values of keys, and the share of keys that were cached.

        Args:
            keys (`list`): Keys, possibly repeated.
            compute (`callable`): Function of the missing keys, each once, that returns their values.
        """
        known = {key: self._values[key] for key in keys if key in self._values}
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        cached = sum(key in known for key in keys) / max(len(keys), 1)
        if missing:
            known |= dict(zip(missing, compute(missing), strict=True))
        for key in keys:
            self._values[key] = known[key]
            self._values.move_to_end(key)
        while len(self._values) > self.size:
            self._values.popitem(last=False)
        return [known[key] for key in keys], cached
