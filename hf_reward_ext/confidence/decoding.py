"""Training-free rewards from the logits of a running `generate` call."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.generation.configuration_utils import GenerationMode

from hf_reward_ext.base.lm.forward import unwrap_peft
from hf_reward_ext.base.lm.generate_hook import effective_generation_config, named_call
from hf_reward_ext.base.lm.hooked_forward import unwatch_forward, watch_forward
from hf_reward_ext.base.lm.row_ends import RowEnds, watch_row_ends
from hf_reward_ext.base.lm.watched_ids import watched_ids
from hf_reward_ext.base.lm.wrapped_method import unwrap_method, wrap_method
from hf_reward_ext.confidence.measures import Measure
from hf_reward_ext.confidence.names import require_measure
from hf_reward_ext.confidence.running import Running

# Open readers and running calls of this thread or task.
_readers: ContextVar[tuple["LogitsReward", ...]] = ContextVar("hf_reward_ext_logits_readers", default=())
_calls: ContextVar[Mapping[int, "_Call | None"]] = ContextVar("hf_reward_ext_read_calls", default={})  # noqa: B039


class LogitsReward:
    r"""
    Context manager that scores the rows of `generate` calls with a training-free measure.

    One number per token is computed from the distribution of the forward that samples it, and added to the reward of
    the row, with constant memory. The logits are those of the policy, before temperature, top-p and other processors.
    The EOS token counts, padding after the end of a row does not. Rows end where the stopping criteria of the call end
    them.

    Works with greedy decoding, sampling, `num_return_sequences` and left padding. Several readers can be open on one
    policy, together with a [`HiddenStateReward`]. Only calls of the thread or task that entered the context are read.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): Model that generates.
        measure ([`Measure`] or `str`, *optional*, defaults to `"confidence"`): Measure, or its name.

    Attributes:
        rewards (`torch.Tensor` of shape `(rows,)`): Reward of each output row.
        completion_mask (`torch.Tensor` of shape `(rows, new)`): `True` on generated tokens, EOS included.
        is_finished (`torch.Tensor` of shape `(rows,)`): `True` for rows that an EOS token, a stop string or a
            criterion ended.

    Raises:
        TypeError: If `measure` is neither a measure nor a name.
        ValueError: If the name is unknown, or `generate` is called with beams, drafts or a search, which do not
            append one token at a time to fixed rows.
        RuntimeError: If rewards are read before a call, or a call does not continue the rows of the last call.

    Example:
    ```python
    >>> with LogitsReward(policy, "confidence") as reader:
    ...     out = policy.generate(**inputs, do_sample=True, num_return_sequences=8)
    >>> best = out[reader.rewards.argmax()]
    ```
    """

    def __init__(self, policy, measure: Measure | str = "confidence"):
        self.policy = policy
        self.measure = require_measure(measure)
        self._model = unwrap_peft(policy)
        self._is_open = False
        self._running: Running | None = None
        self._carried: Running | None = None
        self._num_carried = 0
        self._result: tuple[Tensor, Tensor] | None = None

    def __enter__(self) -> Self:
        if self._is_open:
            raise RuntimeError("This `LogitsReward` must be entered once at a time. Create another one.")
        self._is_open = True
        watch_forward(self._model, _after_forward)
        wrap_method(self._model, "generate", _generate)
        wrap_method(self._model, "prepare_inputs_for_generation", _prepare)
        _readers.set((*_readers.get(), self))
        return self

    def __exit__(self, *exc_info) -> None:
        _readers.set(tuple(reader for reader in _readers.get() if reader is not self))
        unwrap_method(self._model, "generate", _generate)
        unwrap_method(self._model, "prepare_inputs_for_generation", _prepare)
        unwatch_forward(self._model, _after_forward)
        self._is_open = False

    @property
    def rewards(self) -> Float[Tensor, " rows"]:
        self._read()
        return self._running.value()  # pyright: ignore[reportOptionalMemberAccess]

    @property
    def completion_mask(self) -> Bool[Tensor, "rows new"]:
        return self._read()[0]

    @property
    def is_finished(self) -> Bool[Tensor, " rows"]:
        return self._read()[1]

    def carry(self, rows: Int[Tensor, " kept"]) -> None:
        """
        Continue selected rows of the last call in the next one, with rewards over both.

        Args:
            rows (`torch.Tensor` of shape `(kept,)`): Indices of rows of the last call, in the order of the next.

        Raises:
            RuntimeError: If there was no call.
        """
        self._read()
        self._running.select(rows)  # pyright: ignore[reportOptionalMemberAccess]
        self._carried, self._num_carried, self._result = self._running, len(rows), None

    def _read(self) -> tuple[Tensor, Tensor]:
        if self._result is None:
            raise RuntimeError(
                "No `generate` has run inside this context, so there are no rewards. Call it first, in the thread that "
                "entered the context."
            )
        return self._result

    def _begin(self, num_rows: int) -> None:
        if self._carried is not None and self._num_carried != num_rows:
            raise RuntimeError(
                f"`generate` must continue the {self._num_carried} rows that were carried, got {num_rows} rows. Pass "
                "them in that order."
            )
        self._running, self._carried, self._result = self._carried, None, None

    def _add(self, log_probs: Tensor, tokens: Tensor, is_written: Tensor) -> None:
        if self._running is None:
            self._running = self.measure.start(log_probs.new_zeros(len(tokens)))
        self._running.update(self.measure.of_tokens(log_probs, tokens), is_written)


class _Call:
    """State of one `generate` call."""

    def __init__(self, ids: Int[Tensor, "rows seq"], readers: list[LogitsReward], ends: RowEnds):
        self.readers = readers
        self.ends = ends
        self.ids = ids  # all ids whose logits were read; after the first step rows may be copies of prompts
        self.is_prepared = False
        self.logits: Tensor | None = None

    def read(self, ids: Int[Tensor, "rows seq"]) -> None:
        """Add the new token of `ids`, if there is one."""
        if ids.shape[1] != self.ids.shape[1] + 1 or self.logits is None:
            return
        if len(self.ids) == len(ids) and not torch.equal(ids[:, :-1], self.ids):
            raise RuntimeError(
                "Rows of `generate` must keep their order with a `LogitsReward`, but they were reordered. Use "
                "sampling or greedy decoding."
            )
        logits, tokens = self.logits, ids[:, -1].to(self.logits.device)
        log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        is_written = self.ends.are_written(ids).to(logits.device)
        for reader in self.readers:
            reader._add(log_probs, tokens, is_written)
        self.ids, self.logits = ids, None


def _check(arguments: dict[str, Any], config: GenerationConfig) -> None:
    mode = config.get_generation_mode(arguments.get("assistant_model"))
    custom = arguments.get("custom_generate")
    if custom is None and mode in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        return
    got = f"the generation mode '{mode.value}'" if custom is None else "`custom_generate`"
    raise ValueError(
        "A `LogitsReward` must read plain sampling or greedy decoding, whose rows are written one token after the "
        f"other, got {got}. Leave beams, drafts and searches out, or score the finished texts with "
        "`LogitsRewardModel`."
    )


@torch.no_grad()
def _generate(model: nn.Module, plain, *args, **kwargs):
    readers = [reader for reader in _readers.get() if reader._model is model]
    before = _calls.get()
    if not readers:
        return plain(*args, **kwargs)
    if id(model) in before:  # a nested call of the policy for itself
        return _run(model, plain, args, kwargs, None)
    arguments = named_call(model, args, kwargs).arguments
    config = effective_generation_config(model, arguments)
    _check(arguments, config)
    ids = watched_ids(arguments, config, "LogitsReward")
    for reader in readers:
        reader._begin(len(ids) * (config.num_return_sequences or 1))
    with watch_row_ends(model) as ends:
        call = _Call(ids, readers, ends)
        output = _run(model, plain, args, kwargs, call)
        sequences = getattr(output, "sequences", output)
        call.read(sequences)
    if call.ids.shape != sequences.shape:
        raise RuntimeError(
            f"`generate` returned {sequences.shape[1]} tokens per row, but the logits of {call.ids.shape[1]} were "
            "read. Leave settings that change the prompts (`token_healing`) out."
        )
    for reader in readers:
        reader._result = ends.completion_mask(sequences, ids.shape[1]), ends.is_finished(sequences)
    return output


def _run(model: nn.Module, plain, args: tuple, kwargs: dict[str, Any], call: _Call | None):
    before = _calls.get()
    _calls.set({**before, id(model): call})
    try:
        return plain(*args, **kwargs)
    finally:
        _calls.set(before)


def _prepare(model: nn.Module, plain, input_ids, *args, **kwargs):
    call = _calls.get().get(id(model))
    if call is not None:
        call.read(input_ids)
        call.is_prepared = True
    return plain(input_ids, *args, **kwargs)


def _after_forward(model: nn.Module, output) -> None:
    call = _calls.get().get(id(model))
    # Unprepared forwards are not those of `generate`, but of a processor that calls the policy.
    if call is not None and call.is_prepared:
        call.logits, call.is_prepared = output.logits[:, -1], False
