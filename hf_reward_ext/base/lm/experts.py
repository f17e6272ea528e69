"""Expert kernels for decoding in a model that is composed of other models."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager


@contextmanager
def optimized_for_decode(models: Sequence) -> Iterator[None]:
    """
    Switch each model to its expert implementation for decoding, as `generate` does for the model it is called on.

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
