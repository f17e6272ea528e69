"""
End of each row of a `generate` call, as decided by its stopping criteria.

The ids alone do not determine it: a row that a stop string ends is filled with the padding token, which is an EOS for
many models (Llama, Mistral and GPT-2 have no other; Qwen lists it among its EOS ids), and the first fill token is then
indistinguishable from a generated one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import StoppingCriteriaList
from transformers.generation import MaxLengthCriteria

from hf_reward_ext.base.lm.forward import unwrap_peft
from hf_reward_ext.base.lm.tokens import completion_mask_from_ids, eos_token_ids, pad_token_id
from hf_reward_ext.base.lm.wrapped_method import unwrap_method, wrap_method

_watching: ContextVar[tuple[tuple[object, "RowEnds"], ...]] = ContextVar("hf_reward_ext_row_ends", default=())


class RowEnds:
    """
    Ends of the rows of the latest `generate` call inside [`watch_row_ends`].

    Rows are looked up by their ids, so beams that change order and reordered rows are found too. Rows that the call did
    not generate are cut by their ids alone: after the first EOS, and before trailing padding.
    """

    def __init__(self):
        self.begin()

    def begin(self, generation_config=None) -> None:
        """Discard earlier calls; `generation_config` holds the effective settings."""
        self._eos = eos_token_ids(generation_config)
        self._pad = pad_token_id(generation_config)
        self._ids: Tensor | None = None  # ids at the last decision
        self._in_order = True  # True while every row continues the previous row at its index
        self._lengths = self._is_limited = torch.empty(0)  # end of each row, 0 while it is unfinished
        self._ended: list[tuple[Tensor, Tensor]] = []  # rows that ended in one step, those at the limit

    def record(
        self, ids: Int[Tensor, "rows seq"], ended: Bool[Tensor, " rows"], is_limit: Bool[Tensor, " rows"]
    ) -> None:
        """
        Add one decision of the stopping criteria.

        Args:
            ids (`torch.Tensor` of shape `(rows, seq)`): Prompts and the tokens generated so far.
            ended (`torch.Tensor` of shape `(rows,)`): `True` for rows that an EOS token, a stop string or a criterion
                ends.
            is_limit (`torch.Tensor` of shape `(rows,)`): `True` for rows that only the length limit ends.
        """
        if self._ids is None or not _continues(ids, self._ids):
            self._in_order = self._ids is None
            self._lengths = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
            self._is_limited = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        self._ids = ids
        new = (ended | is_limit) & (self._lengths == 0)
        if not new.any():
            return
        self._lengths = self._lengths.masked_fill(new, ids.shape[1])
        self._is_limited = self._is_limited | (new & ~ended)
        self._ended.append((ids[new], ~ended[new]))

    def are_written(self, ids: Int[Tensor, "rows seq"]) -> Bool[Tensor, " rows"]:
        """
        Return which rows have a generated token in the last column; the others ended before and have padding.

        Args:
            ids (`torch.Tensor` of shape `(rows, seq)`): What the criteria saw last.
        """
        return ((self._lengths == 0) | (self._lengths == ids.shape[1])).to(ids.device)

    def completion_mask(self, sequences: Int[Tensor, "rows seq"], prompt_length: int) -> Bool[Tensor, "rows new"]:
        """
        Return a mask of the generated tokens after the prompt.

        Args:
            sequences (`torch.Tensor` of shape `(rows, seq)`): Output of the call, or rows of it.
            prompt_length (`int`): Number of columns of the (left-padded) prompts.

        Returns:
            `torch.Tensor` of shape `(rows, new)`: `True` on generated tokens, including EOS and the tokens of a stop
            string.
        """
        lengths, _ = self._find(sequences)
        columns = torch.arange(prompt_length, sequences.shape[1], device=sequences.device)
        mask = columns < lengths[:, None]
        unknown = lengths == 0
        if unknown.any():
            mask[unknown] = completion_mask_from_ids(sequences[unknown, prompt_length:], self._eos, self._pad)
        return mask

    def is_finished(self, sequences: Int[Tensor, "rows seq"]) -> Bool[Tensor, " rows"]:
        """Return which rows were ended by anything else than the length limit."""
        lengths, is_limited = self._find(sequences)
        return (lengths > 0) & ~is_limited

    def _find(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Return the end of each row (0: not found), and whether the length limit ended it."""
        lengths = torch.zeros(len(sequences), dtype=torch.long, device=sequences.device)
        is_limited = torch.zeros(len(sequences), dtype=torch.bool, device=sequences.device)
        if self._ids is None:
            return lengths, is_limited
        if self._in_order and len(sequences) == len(self._ids) and _continues(sequences, self._ids):
            return self._lengths.to(sequences.device), self._is_limited.to(sequences.device)
        for ids, by_limit in self._ended:
            width = ids.shape[1]
            if width > sequences.shape[1]:
                break
            same = (sequences[:, None, :width] == ids[None].to(sequences.device)).all(-1)
            new = same.any(-1) & (lengths == 0)
            lengths[new] = width
            is_limited[new] = by_limit.to(sequences.device)[same[new].int().argmax(-1)]
        return lengths, is_limited


@contextmanager
def watch_row_ends(model) -> Iterator[RowEnds]:
    """
    Record where `generate` ends its rows.

    Calls in other threads and of other models, including an assistant model, are not recorded.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model that generates.

    Example:
    ```python
    >>> with watch_row_ends(policy) as ends:
    ...     sequences = policy.generate(**inputs, stop_strings=["\\n"], tokenizer=tokenizer)
    >>> num_tokens = ends.completion_mask(sequences, inputs["input_ids"].shape[1]).sum(-1)
    ```
    """
    model = unwrap_peft(model)
    ends = RowEnds()
    wrap_method(model, "_get_stopping_criteria", _record_criteria)
    _watching.set((*_watching.get(), (model, ends)))
    try:
        yield ends
    finally:
        _watching.set(tuple(one for one in _watching.get() if one[1] is not ends))
        unwrap_method(model, "_get_stopping_criteria", _record_criteria)


def _record_criteria(model, plain, generation_config, *args, **kwargs) -> StoppingCriteriaList:
    criteria = plain(generation_config, *args, **kwargs)
    watching = [ends for watched, ends in _watching.get() if watched is model]
    if not watching or generation_config.is_assistant:
        return criteria
    for ends in watching:
        ends.begin(generation_config)
    return _RecordedCriteria(criteria, watching)


class _RecordedCriteria(StoppingCriteriaList):
    """Stopping criteria of one call, with a record of their decisions."""

    def __init__(self, criteria: StoppingCriteriaList, watching: list[RowEnds]):
        super().__init__(criteria)
        self.watching = watching

    def __call__(self, input_ids, scores, **kwargs) -> Tensor:
        ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        is_limit = ended.clone()
        for criterion in self:
            done = criterion(input_ids, scores, **kwargs)
            if isinstance(criterion, MaxLengthCriteria):
                is_limit = is_limit | done
            else:
                ended = ended | done
        for ends in self.watching:
            ends.record(input_ids, ended, is_limit)
        return ended | is_limit


def _continues(ids: Tensor, before: Tensor) -> bool:
    width = before.shape[1]
    return len(ids) == len(before) and ids.shape[1] >= width and torch.equal(ids[:, :width], before)
