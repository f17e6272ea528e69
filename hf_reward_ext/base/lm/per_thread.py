"""State that every thread has for itself."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerThread(Generic[T]):
    """
    A value that is created for each thread on its first access.

    A server calls one processor from many threads; `generate` runs in one thread from its first token to its last, so
    state by thread is state by call.

    Args:
        create (`callable`): Called without arguments for a thread's first value.

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
        """Drops the value of this thread."""
        vars(self._local).pop("value", None)

    def __deepcopy__(self, memo) -> "PerThread[T]":
        return PerThread(self._create)  # a copy begins without state: thread-local values cannot be copied

    def __reduce__(self):
        return PerThread, (self._create,)
