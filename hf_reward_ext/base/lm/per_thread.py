"""State that is separate for each thread."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerThread(Generic[T]):
    """
    A value that is created for each thread on its first access.

    A server may call one processor from many threads. Each `generate` call runs in a single thread, so state per
    thread is state per call.

    Args:
        create (`callable`): Function without arguments that returns a thread's initial value.

    Example:
    ```python
    >>> counters = PerThread(list)
    >>> counters.value.append(1)
    ```
    """

    def __init__(self, create: Callable[[], T]):
        self._create = create
        self._local = threading.local()

    @property
    def value(self) -> T:
        if not hasattr(self._local, "value"):
            self._local.value = self._create()
        return self._local.value

    def clear(self) -> None:
        """Drop the value of this thread."""
        vars(self._local).pop("value", None)

    def __deepcopy__(self, memo) -> "PerThread[T]":
        return PerThread(self._create)  # a copy starts without state: thread-local values cannot be copied

    def __reduce__(self):
        return PerThread, (self._create,)
