"""Streaming of confirmed chunks during the search."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

from hf_reward_ext.base.options import check_callable
from hf_reward_ext.sla.search import LookAheadSearch


class ConfirmedChunk(list):
    """
    Token ids of a confirmed chunk, which is final.

    Attributes:
        prompt_index (`int`): Index of the prompt in the batch.
        is_last (`bool`): Whether the chunk ends the answer.
    """

    def __init__(self, tokens: Sequence[int], prompt_index: int, is_last: bool):
        super().__init__(tokens)
        self.prompt_index = prompt_index
        self.is_last = is_last


class ChunkSender:
    """
    Sender of newly confirmed chunks to a callable or a streamer.

    Args:
        receiver (`callable` or streamer, *optional*): Callable that receives each [`ConfirmedChunk`], or an object with
            `put` and `end`, which is called as by `generate`: with the prompt, then with tensors of token ids.
        input_ids (`torch.Tensor` of shape `(batch, seq)`): Prompts.

    Raises:
        TypeError: If the receiver is neither.
    """

    def __init__(self, receiver: Callable | None, input_ids: Tensor):
        is_streamer = hasattr(receiver, "put") and hasattr(receiver, "end")
        if receiver is not None and not is_streamer and not callable(receiver):
            raise TypeError(
                f"`on_chunk` must be a callable or a streamer with `put` and `end`, got a `{type(receiver).__name__}`. "
                "Pass one of them."
            )
        if receiver is not None and not is_streamer:
            check_callable("on_chunk", receiver, ["chunk"])
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
        """Send the new chunks of every search, in the order of the prompts."""
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
