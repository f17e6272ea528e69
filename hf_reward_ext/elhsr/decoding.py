"""Rewards from the hidden states of a running `generate` call."""

import copy
import threading
from contextvars import ContextVar
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from hf_reward_ext.base.lm.forward import run_forward, unwrap_peft
from hf_reward_ext.base.lm.generate_hook import effective_generation_config, named_call
from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.base.lm.watched_ids import watched_ids
from hf_reward_ext.base.options import check_choice
from hf_reward_ext.base.training.token_rewards import masked_sum
from hf_reward_ext.elhsr.features import policy_features
from hf_reward_ext.elhsr.metered_call import MeteredCall, running_calls, unwatch, watch
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean, prefix_gated_mean

# Open meters of this thread or task.
_meters: ContextVar[tuple["HiddenStateReward", ...]] = ContextVar("hf_reward_ext_meters", default=())
_lock = threading.Lock()


class HiddenStateReward:
    r"""
    Context manager that scores the rows of `generate` calls with an ELHSR head, without storing hidden states.

    $$ z_t = b + \sum_l W_l h_{l,t}, \qquad R = \frac{\sum_t g_t \rho_t}{\sum_t g_t} $$

    Section 3 of [ELHSR](https://huggingface.co/papers/2505.12225). The forward that samples $y_{t+1}$ reads $y_t$, so
    its states give $z_t$: two dot products per layer and token, two numbers stored. The states of the very last token
    are never computed by `generate`; one more forward on the same cache adds them.

    Works with greedy decoding, sampling, `num_return_sequences`, left padding, beams, assisted decoding and prompt
    lookup. Sequences whose tokens were not all read (with beams, which reuse rows, or `sla_generate`, which runs
    other forwards) are completed by a teacher-forced pass. Each `generate` call in the context replaces the rewards of
    the previous one.

    Rows end where the stopping criteria of the call end them: neither padding after a stop string nor other rows of the
    batch change a reward. Only calls of the thread or task that entered the context are scored. Other calls of the same
    policy are not affected, and each thread can have its own meter.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): The model that generates.
        head ([`ELHSRModel`]): Head trained on the policy.
        last_token (`str`, *optional*, defaults to `"forward"`): Treatment of the last token: `"forward"` scores it
            exactly; `"skip"` leaves it out of the mean and saves a forward.

    Attributes:
        rewards (`torch.Tensor` of shape `(rows,)`): Reward of each output row.
        token_rewards (`tuple` of two `torch.Tensor` of shape `(rows, seq)`): Gates and rewards of completion tokens.
        prefix_rewards (`torch.Tensor` of shape `(rows, seq)`): Reward of the completion up to each token.
        completion_mask (`torch.Tensor` of shape `(rows, seq)`): `True` on completion tokens, EOS included.
        is_finished (`torch.Tensor` of shape `(rows,)`): `True` for rows that an EOS token, a stop string or a criterion
            ended, and not the length limit.

    Raises:
        ValueError: If head and policy do not match, or `generate` is called in a way that hides the tokens.
        RuntimeError: If there are two meters, or two calls at a time, on one policy in one thread or task.

    Example:
    ```python
    >>> with HiddenStateReward(policy, head) as meter:
    ...     out = policy.generate(**inputs, do_sample=True, num_return_sequences=8)
    >>> best = out[meter.rewards.argmax()]
    ```
    """

    def __init__(self, policy, head: ELHSRModel, *, last_token: str = "forward"):
        check_choice("last_token", last_token, ("forward", "skip"))
        head.check_policy(policy)
        self.policy = policy
        self.head = head
        self.last_token = last_token
        self._model = unwrap_peft(policy)
        self._is_open = self._is_running = False
        self._call: MeteredCall | None = None
        self._result: tuple[Tensor, Tensor, Tensor] | None = None
        self._is_finished: Tensor | None = None
        self._sums_before: tuple[Tensor, Tensor] | None = None  # of the calls that the last one continues
        self._carried: tuple[Tensor, Tensor] | None = None

    def __enter__(self) -> Self:
        with _lock:
            if self._is_open or _meter_of(self._model) is not None:
                raise RuntimeError(
                    "A policy must have one open `HiddenStateReward`, got a second. Leave the first context."
                )
            self._is_open = True
            watch(self._model, _generate)
        _meters.set((*_meters.get(), self))
        return self

    def __exit__(self, *exc_info) -> None:
        _meters.set(tuple(meter for meter in _meters.get() if meter is not self))
        with _lock:
            self._is_open = False
            unwatch(self._model, _generate)

    @property
    def rewards(self) -> Float[Tensor, " rows"]:
        weighted, gates = self._sums()
        return weighted / gates.clamp(min=1e-8)

    @property
    def token_rewards(self) -> tuple[Float[Tensor, "rows seq"], Float[Tensor, "rows seq"]]:
        return self._scored()[:2]

    @property
    def prefix_rewards(self) -> Float[Tensor, "rows seq"]:
        return prefix_gated_mean(*self._scored())

    @property
    def completion_mask(self) -> Bool[Tensor, "rows seq"]:
        return self._scored()[2]

    @property
    def is_finished(self) -> Bool[Tensor, " rows"]:
        self._scored()
        return self._is_finished  # pyright: ignore[reportReturnType]

    def score(self, sequences) -> Float[Tensor, " rows"]:
        """
        Return the rewards of sequences (ids or a `generate` output) of the last call, in any order.

        Args:
            sequences (`torch.Tensor` of shape `(rows, seq)` or `ModelOutput`): Prompt and completion.

        Returns:
            `torch.Tensor` of shape `(rows,)`. Tokens that were never read are scored by a teacher-forced pass.
        """
        self._scored()
        gates, rewards, mask = self._score_tokens(self._call, getattr(sequences, "sequences", sequences))  # pyright: ignore
        return gated_mean(gates, rewards, mask)

    def num_read(self, ids: Int[Tensor, "rows seq"]) -> int:
        """
        Return the number of completion tokens whose states were read in the call that runs.

        Args:
            ids (`torch.Tensor` of shape `(rows, seq)`): What a stopping criterion gets: all read tokens and the next.

        Raises:
            RuntimeError: If no call runs, or it does not write its rows one token after the other (beams, drafts).
        """
        call = running_calls.get().get(id(self._model))
        if call is None or not self._is_running:
            raise RuntimeError(
                "`generate` must run inside the context of its `HiddenStateReward` to read rewards meanwhile. Enter it "
                "first, in the same thread."
            )
        read = call.trace.ids
        if read is not None and read.shape != (len(ids), ids.shape[1] - 1):
            raise RuntimeError(
                f"`generate` must write rows one token after the other to read rewards meanwhile, got "
                f"{tuple(ids.shape)} tokens after {tuple(read.shape)} were read. Use sampling or greedy decoding."
            )
        return call.trace.num_read

    def are_running(self, ids: Int[Tensor, "rows seq"]) -> Bool[Tensor, " rows"]:
        """Return which rows of the call that runs had not ended before their last token."""
        self.num_read(ids)
        return running_calls.get()[id(self._model)].ends.are_written(ids)  # pyright: ignore[reportOptionalMemberAccess]

    def running_rewards(self, ids: Int[Tensor, "rows seq"]) -> Float[Tensor, " rows"]:
        """
        Return the reward of what every row has written, up to the last token that was read, while a call runs.

        Args:
            ids (`torch.Tensor` of shape `(rows, seq)`): As for `num_read`.

        Raises:
            RuntimeError: As of `num_read`, and if nothing was read yet.
        """
        if self.num_read(ids) == 0:
            raise RuntimeError("No token of a completion was read yet. Ask after the second step.")
        call = running_calls.get()[id(self._model)]
        gates, rewards = self.head.split_gate(call.trace.values)  # pyright: ignore[reportOptionalMemberAccess]
        return gated_mean(gates, rewards, torch.ones_like(gates, dtype=torch.bool))

    def carry(self, rows: Int[Tensor, " kept"]) -> None:
        """
        The next call continues these rows of the last one, and `rewards` then cover both.

        Args:
            rows (`torch.Tensor` of shape `(kept,)`): Indices of rows of the last call, in the order of the next.

        Raises:
            RuntimeError: If there was no call.
        """
        weighted, gates = self._sums()
        self._carried = weighted[rows], gates[rows]

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Sums over completion tokens of the gated rewards and of the gates, of all calls that were continued."""
        gates, rewards, mask = self._scored()
        sums = masked_sum(gates * rewards, mask), masked_sum(gates, mask)
        if self._sums_before is None:
            return sums
        return sums[0] + self._sums_before[0], sums[1] + self._sums_before[1]

    def _scored(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._result is None:
            raise RuntimeError(
                "No `generate` has run inside this context, so there are no rewards. Call it first, in the thread that "
                "entered the context."
            )
        return self._result

    @torch.no_grad()
    def _measure(self, plain, args: tuple, kwargs: dict[str, Any]):
        """Run `generate` and score its output."""
        arguments = named_call(self._model, args, kwargs).arguments
        config = effective_generation_config(self._model, arguments)
        call = MeteredCall(self.head, watched_ids(arguments, config, "HiddenStateReward"), arguments, config)
        with _lock:
            if self._is_running:
                raise RuntimeError(
                    "This `HiddenStateReward` must score one `generate` at a time, and one is running in another task. "
                    "Make a meter for each task."
                )
            self._check_carried(len(call.ids) * (config.num_return_sequences or 1))
            self._is_running = True
        before = running_calls.get()
        running_calls.set({**before, id(self._model): call})
        try:
            with watch_row_ends(self._model) as call.ends:
                output = plain(*args, **kwargs)
            call.prepared = None
            sequences = getattr(output, "sequences", output)
            if self.last_token == "forward":
                self._read_last_token(call, sequences)
            call.cache, call.last_inputs = None, {}
            self._result = self._score_tokens(call, sequences)
            self._sums_before, self._carried = self._carried, None
            self._is_finished = call.ends.is_finished(sequences)
            self._call = call
        finally:
            running_calls.set(before)
            self._is_running = False
        return output

    def _check_carried(self, num_rows: int) -> None:
        if self._carried is not None and len(self._carried[0]) != num_rows:
            raise RuntimeError(
                f"`generate` must continue the {len(self._carried[0])} rows that were carried, got {num_rows} rows. "
                "Pass them in that order."
            )

    def _read_last_token(self, call: MeteredCall, sequences: Int[Tensor, "rows seq"]) -> None:
        """Run one more forward on the final cache of `generate`, for the last token."""
        trace, cache = call.trace, call.cache
        read = sequences.shape[1] - 1 if trace.ids is None else trace.ids.shape[1]
        unchanged = trace.ids is None or (len(trace.ids) == len(sequences) and not trace.permuted)
        mask = call.last_inputs.get("attention_mask")
        if not unchanged or sequences.shape[1] != read + 1 or not _can_append(cache, read):
            return
        if mask is None and not bool(call.prompt_mask.all()):
            return  # the mask of the forward is unknown
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            return
        can_take_back = all(type(layer) is DynamicLayer for layer in cache.layers)  # pyright: ignore
        if call.cache_is_visible and not can_take_back:
            cache = copy.deepcopy(cache)
        positions = call.last_inputs.get("position_ids")
        call.prepared = sequences
        run_forward(
            self._model,
            sequences[:, -1:],
            None if mask is None else torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1),
            cache=cache,
            position_ids=None if positions is None else positions[..., -1:] + 1,
            logits_to_keep=1,
        )
        if call.cache_is_visible and can_take_back:
            cache.crop(-1)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]

    def _score_tokens(self, call: MeteredCall, sequences: Int[Tensor, "rows seq"]) -> tuple[Tensor, Tensor, Tensor]:
        mask = call.ends.completion_mask(sequences, call.trace.prompt_length)
        values, found = call.trace.lookup(sequences)
        missing = mask & ~found.to(mask.device)
        if self.last_token == "skip":
            mask = mask & ~missing
        elif missing.any():
            rows = missing.any(-1)
            values = values.to(self.head.device).expand(-1, -1, self.head.linear.out_features).clone()
            masks = call.prompt_masks(sequences)[rows]
            values[missing] = self._second_pass(call, sequences[rows], masks)[missing[rows]]
        gates, rewards = self.head.split_gate(values)
        return gates, rewards, mask.to(gates.device)

    @torch.no_grad()
    def _second_pass(
        self, call: MeteredCall, sequences: Int[Tensor, "rows seq"], prompt_mask: Int[Tensor, "rows prompt"]
    ) -> Tensor:
        completion = prompt_mask.new_ones(len(sequences), sequences.shape[1] - prompt_mask.shape[1])
        reads_states = self.head.config.features == "hidden_states"
        output = run_forward(
            self._model,
            sequences,
            torch.cat([prompt_mask, completion], dim=-1),
            logits_to_keep=1 if reads_states else 0,
            **({"output_hidden_states": list(self.head.config.layers)} if reads_states else {}),  # pyright: ignore[reportArgumentType]
        )
        features = policy_features(output, self.head.config, last=sequences.shape[1] - call.trace.prompt_length)
        return call.outputs_of_head(features)


def _meter_of(model: nn.Module) -> HiddenStateReward | None:
    """Return the open meter of a model in this thread or task."""
    return next((meter for meter in _meters.get() if meter._model is model and meter._is_open), None)


def _generate(model: nn.Module, plain, *args, **kwargs):
    meter, before = _meter_of(model), running_calls.get()
    if meter is None:
        return plain(*args, **kwargs)
    if id(model) not in before:
        return meter._measure(plain, args, kwargs)
    # Drafts of the policy for itself (early exit) are not part of the output.
    running_calls.set({**before, id(model): None})
    try:
        return plain(*args, **kwargs)
    finally:
        running_calls.set(before)


def _can_append(cache, read: int) -> bool:
    """Return whether the cache has exactly the tokens read so far, and room for one more."""
    return cache is not None and not cache.is_compileable and cache.get_seq_length() == read
