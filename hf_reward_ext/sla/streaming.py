"""Hands confirmed chunks on while the search runs."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

from hf_reward_ext.sla.search import LookAheadSearch


class ConfirmedChunk(list):
    """
    Token ids of a confirmed chunk: they will not change any more.

    Attributes:
        prompt_index (`int`): Which prompt of the batch they answer.
        is_last (`bool`): Whether the answer ends with them.
    """

    def __init__(self, tokens: Sequence[int], prompt_index: int, is_last: bool):
        super().__init__(tokens)
        self.prompt_index = prompt_index
        self.is_last = is_last


class ChunkSender:
    """
    Sends what was confirmed since the last call to a callable or a streamer.

    Args:
        receiver (`callable` or streamer, *optional*): Called with each [`ConfirmedChunk`]. An object with `put` and
            `end` gets what `generate` would give it: the prompt, then tensors of token ids, then the end.
        input_ids (`torch.Tensor` of shape `(batch, seq)`): The prompts.

    Raises:
        TypeError: If the receiver is neither.
    """

    def __init__(self, receiver: Callable | None, input_ids: Tensor):
        is_streamer = hasattr(receiver, "put") and hasattr(receiver, "end")
        if receiver is not None and not is_streamer and not callable(receiver):
            raise TypeError(
                f"`on_chunk` of type `{type(receiver).__name__}` was given, but chunks go to a callable or to a "
                "streamer with `put` and `end`. Pass one of them."
            )
        self._streamer = receiver if is_streamer else None
        self._callable = None if is_streamer else receiver
        self._input_ids = input_ids
        self._sent = [0] * len(input_ids)

    def __enter__(self) -> Self:
        if self._streamer is not None:
            self._streamer.put(self._input_ids.cpu())
        return self

    def __exit__(self, *exc_info) -> None:
        if self._streamer is not None:
            self._streamer.end()

    def send(self, searches: Sequence[LookAheadSearch]) -> None:
        """New chunks of every search, in the order of the prompts."""
        for index, search in enumerate(searches):
            for number in range(self._sent[index], len(search.confirmed)):
                is_last = search.is_finished and number == len(search.confirmed) - 1
                self._send(ConfirmedChunk(search.confirmed[number], index, is_last))
            self._sent[index] = len(search.confirmed)

    def _send(self, chunk: ConfirmedChunk) -> None:
        if self._streamer is not None:
            self._streamer.put(torch.tensor(chunk))
        elif self._callable is not None:
            self._callable(chunk)
