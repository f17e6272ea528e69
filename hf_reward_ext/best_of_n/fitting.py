"""Batches of candidates that fit in memory, found by trying."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

Made = TypeVar("Made")
_MPS = "MPS backend out of memory"  # which accelerate 1.10 does not list


class FittingBatches:
    """
    Splits candidates into batches that fit in memory, for `candidates_per_batch="auto"`.

    All candidates are tried at once. Every error for lack of memory halves the number of rows, for later calls too.

    Example:
    ```python
    >>> fitting = FittingBatches()
    >>> parts = list(fitting.sample(range(16), num_prompts=1, sample=draw))  # 8 and 8, if 16 do not fit
    ```
    """

    def __init__(self):
        self._most_rows: int | None = None

    def sample(self, numbers: range, num_prompts: int, sample: Callable[[range], Made]) -> Iterator[Made]:
        """
        Yield the results of consecutive parts of the candidates; each candidate is in one of them.

        Args:
            numbers (`range`): Numbers of the candidates of each prompt.
            num_prompts (`int`): Number of prompts, each of which has a row for each number.
            sample (`callable`): Function of a part of the numbers, called with a smaller part after an error for lack
                of memory. It must not add anything to earlier results.

        Raises:
            RuntimeError: If one candidate of each prompt does not fit.
        """
        while numbers:
            part = numbers[: self._size(num_prompts)]
            made = []
            try:
                made.append(sample(part))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise RuntimeError(
                        f"One candidate of each of {num_prompts} prompts must fit in memory, got "
                        f"{_first_line(error)!r}. Lower `batch_size` or `max_new_tokens`, or load the model with a "
                        "smaller `dtype`."
                    ) from error
            if not made:  # not in `except`: there the error would keep the tensors of the failed call
                clear_device_cache(garbage_collection=True)
                self._most_rows = len(part) * num_prompts // 2
                continue
            numbers = numbers[len(part) :]
            yield made[0]

    def _size(self, num_prompts: int) -> int | None:
        return None if self._most_rows is None else max(1, self._most_rows // num_prompts)


def is_out_of_memory(error: Exception) -> bool:
    """
    Return whether a smaller batch may avoid an error: lack of memory of any device.

    Example:
    ```python
    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    True
    ```
    """
    is_mps = isinstance(error, RuntimeError) and _MPS in str(error)
    return is_mps or isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
