"""Operations that a KV cache supports."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from hf_reward_ext.base.lm.forward import CACHE_NAMES, forward_parameters, unwrap_peft


def new_cache(model) -> DynamicCache | None:
    """
    Return an empty cache for a model.

    Returns `None` for models without a cache (GPT) or with a cache class of their own (xLSTM, MiniMax, Reformer).

    Example:
    ```python
    >>> run_forward(model, input_ids, cache=new_cache(model))
    ```
    """
    inner = unwrap_peft(model)
    if not any(name in forward_parameters(inner) for name in CACHE_NAMES) or not supports_dynamic_cache(inner):
        return None
    return DynamicCache(config=inner.config.get_text_config(decoder=True))


def supports_dynamic_cache(model) -> bool:
    """Return whether a model stores its keys and values in a `DynamicCache`, by the rule that `generate` uses."""
    return bool(model._supports_default_dynamic_cache())


def can_select_rows(cache: Cache | None) -> bool:
    """
    Return whether rows of the cache can be repeated and selected without losing state; `False` without a cache.

    Linear-attention layers inherit the methods, but their recurrent state is not selected. Layers that reuse the keys
    of other layers store nothing.
    """
    return (
        cache is not None
        and bool(cache.layers)
        and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer) for layer in cache.layers)
    )


def select_columns(cache: Cache, columns: Int[Tensor, "rows kept"]) -> None:
    """
    Keep columns of a dynamic cache, other ones in each row; rows with rejected tokens move to the right.

    Args:
        cache (`Cache`): Cache of full length in all layers, with any number of groups of these rows.
        columns (`torch.Tensor` of shape `(rows, kept)`): Columns to keep, in their order. A negative number makes a
            column without meaning, which the mask has to hide.

    Example:
    ```python
    >>> select_columns(cache, torch.tensor([[0, 1, 2], [-1, 0, 1]]))  # the second row loses its last token
    ```
    """
    layers: list[Any] = cache.layers
    for layer in layers:
        if layer.is_initialized:  # layers that use the keys of others never are
            groups = len(layer.keys) // len(columns)
            index = columns.clamp(min=0).to(layer.keys.device).repeat(groups, 1)[:, None, :, None]
            layer.keys = layer.keys.gather(2, index.expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3]))
            layer.values = layer.values.gather(2, index.expand(-1, layer.values.shape[1], -1, layer.values.shape[3]))


def has_full_length(cache: Cache | None) -> bool:
    """Return whether all layers of a cache keep every token, so that rows can be joined; `False` without a cache."""
    return (
        cache is not None
        and bool(cache.layers)
        and all(type(one) in (DynamicLayer, DummyLayer) for one in cache.layers)
    )


def join_rows(cache: Cache, other: Cache) -> None:
    """
    Append the rows of another cache; the shorter one gets columns without meaning on the left, for the mask to hide.

    Args:
        cache, other (`Cache`): Caches of full length in all layers, of one model; the first one is changed.

    Example:
    ```python
    >>> join_rows(cache, new_rows)
    ```
    """
    for layer, added in zip(_layers(cache), _layers(other), strict=True):
        width = max(layer.keys.shape[2], added.keys.shape[2])
        layer.keys = torch.cat([_widen(layer.keys, width), _widen(added.keys, width)])
        layer.values = torch.cat([_widen(layer.values, width), _widen(added.values, width)])


def drop_columns(cache: Cache, count: int) -> None:
    """Drop the first columns of a cache of full length."""
    for layer in _layers(cache) if count else ():
        layer.keys, layer.values = layer.keys[:, :, count:], layer.values[:, :, count:]


def _layers(cache: Cache) -> list[Any]:
    """Return the layers with keys; layers that use the keys of others never have any."""
    layers: list[Any] = cache.layers
    return [layer for layer in layers if layer.is_initialized]


def _widen(states: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))
