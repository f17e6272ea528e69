"""Mixtures of experts inside a model that is made of models."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager


@contextmanager
def optimized_for_decode(models: Sequence) -> Iterator[None]:
    """
    Lets each model choose its experts for decoding, as `generate` does for a model that it is called on.

    Example:
    ```python
    >>> with optimized_for_decode([base, guide]):
    ...     generate_tokens()
    ```
    """
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(model._optimize_model_for_decode())
        yield
