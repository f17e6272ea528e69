"""One `generate` call that is scored: its state, and the hooks on the policy that fill it."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationConfig

from hf_reward_ext.base.lm.forward import CACHE_NAMES, cache_of
from hf_reward_ext.base.lm.row_ends import RowEnds
from hf_reward_ext.base.lm.tokens import inferred_mask
from hf_reward_ext.base.lm.wrapped_method import unwrap_method, wrap_method
from hf_reward_ext.elhsr.features import policy_features
from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.elhsr.token_trace import TokenTrace

# Running calls of this thread or task, by the id of their model; `None` while drafts are not recorded.
running_calls: ContextVar[Mapping[int, "MeteredCall | None"]] = ContextVar("hf_reward_ext_metered_calls", default={})  # noqa: B039
_hooks: WeakKeyDictionary[nn.Module, list] = WeakKeyDictionary()  # number of meters, and the handles of the hooks


class MeteredCall:
    """State of one `generate` call."""

    def __init__(
        self, head: ELHSRModel, ids: Int[Tensor, "rows seq"], arguments: dict[str, Any], config: GenerationConfig
    ):
        self.head = head
        self.trace = TokenTrace(ids.shape[1])
        self.ends = RowEnds()
        self.ids = ids
        mask = arguments.get("attention_mask")
        self.prompt_mask: Tensor = inferred_mask(ids, config) if mask is None else mask
        self.cache_is_visible = bool(config.return_dict_in_generate) or any(
            arguments.get(name) is not None for name in CACHE_NAMES
        )
        self.prepared: Tensor | None = None  # all ids of the next forward
        self.reading: Tensor | None = None  # all ids of the current forward
        self.last_inputs: dict[str, Any] = {}
        self.cache = None

    def num_unread(self, ids: Int[Tensor, "rows seq"], num_new: int) -> int:
        """Return the number of completion tokens that the next forward reads."""
        return max(0, min(num_new, ids.shape[1] - self.trace.prompt_length))

    def prompt_masks(self, sequences: Int[Tensor, "rows seq"]) -> Int[Tensor, "rows prompt"]:
        """Return the mask of each sequence's prompt, found by the order of outputs or by the ids of the prompt."""
        copies, remainder = divmod(len(sequences), len(self.ids))
        rows = torch.arange(len(self.ids), device=sequences.device).repeat_interleave(copies)
        same = (sequences[:, None, : self.ids.shape[1]] == self.ids[None].to(sequences.device)).all(-1)
        if same.any(-1).all() and (remainder or not same[torch.arange(len(rows)), rows].all()):
            rows = same.int().argmax(-1)
        elif remainder:  # otherwise the prompts may have been changed by token healing
            raise ValueError(
                "`sequences` must begin with prompts of the last `generate` call, but row "
                f"{int((~same.any(-1)).nonzero()[0])} does not. Pass what that call returned."
            )
        return self.prompt_mask[rows.to(self.prompt_mask.device)]

    def outputs_of_head(self, features: Tensor) -> Tensor:
        return self.head.token_outputs(features)


def watch(model: nn.Module, generate: Callable) -> None:
    """Install the hooks of meters on a model and wrap its `generate`; calls of other threads are not affected."""
    if model not in _hooks:
        _hooks[model] = [
            0,
            model.register_forward_pre_hook(_before_forward, with_kwargs=True),  # pyright: ignore[reportArgumentType]
            model.register_forward_hook(_after_forward, with_kwargs=True),  # pyright: ignore[reportArgumentType]
        ]
    _hooks[model][0] += 1
    wrap_method(model, "generate", generate)
    wrap_method(model, "prepare_inputs_for_generation", _prepare)


def unwatch(model: nn.Module, generate: Callable) -> None:
    """Undo [`watch`]; the hooks go with the last meter."""
    unwrap_method(model, "generate", generate)
    unwrap_method(model, "prepare_inputs_for_generation", _prepare)
    _hooks[model][0] -= 1
    if _hooks[model][0] == 0:
        for handle in _hooks.pop(model)[1:]:
            handle.remove()


def _prepare(model: nn.Module, plain, input_ids, *args, **kwargs):
    call = running_calls.get().get(id(model))
    if call is not None:
        call.prepared = input_ids
    return plain(input_ids, *args, **kwargs)


@torch.compiler.disable  # the recorded shapes change in every step, which would recompile
def _before_forward(module: nn.Module, args, kwargs=None):
    call = running_calls.get().get(id(module))
    # Unprepared forwards are not those of `generate`, but of a search or a guide on the policy.
    if call is None or call.prepared is None or kwargs is None:
        return None
    call.reading, call.prepared = call.prepared, None
    layers = call.head.config.layers
    if call.head.config.features == "hidden_states" and _num_unread(call, kwargs) > 0:
        asked = kwargs.get("output_hidden_states")
        if isinstance(asked, (list, tuple)):
            kwargs["output_hidden_states"] = sorted({*asked, *layers})
        elif not asked:
            kwargs["output_hidden_states"] = list(layers)
    return args, kwargs


@torch.compiler.disable
def _after_forward(module: nn.Module, args, *kwargs_and_output) -> None:
    call = running_calls.get().get(id(module))
    # In a thread that runs while the hook is removed, torch may omit the keywords.
    if call is None or call.reading is None or len(kwargs_and_output) < 2:
        return
    kwargs, output = kwargs_and_output
    ids, call.reading = call.reading, None
    call.last_inputs, call.cache = kwargs, cache_of(output)  # pyright: ignore[reportAttributeAccessIssue]
    unread = _num_unread(call, kwargs, ids)
    if unread > 0:
        features = policy_features(output, call.head.config, last=unread)
        call.trace.record(ids, call.outputs_of_head(features))


def _num_unread(call: MeteredCall, kwargs: dict[str, Any], ids: Tensor | None = None) -> int:
    ids = call.reading if ids is None else ids
    new = kwargs.get("input_ids")
    return 0 if new is None or ids is None else call.num_unread(ids, new.shape[1])
