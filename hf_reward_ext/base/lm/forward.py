"""The one forward of a causal language model: its keywords, its cache, and the logits of the last positions."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, GenerationMixin
from transformers.utils import TransformersKwargs

# Newest first: transformers 5.24 renamed `past_key_values` and Mamba's `cache_params` to `cache`.
CACHE_NAMES = ("cache", "past_key_values", "cache_params")


def unwrap_peft(model):
    """Return the model inside the wrappers of PEFT, with its adapters active, and of `torch.compile`."""
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


_declared: dict[type, tuple[frozenset[str], bool]] = {}  # by class; a dict because `torch.compile` traces it


def forward_parameters(model) -> frozenset[str]:
    """Return the names of the parameters that the forward of a model's class declares, without the PEFT wrapper."""
    return _declaration(model)[0]


def _declaration(model) -> tuple[frozenset[str], bool]:
    """Return the names that a forward declares, and whether it also accepts other keywords."""
    kind = type(unwrap_peft(model))
    if kind not in _declared:
        parameters = inspect.signature(kind.forward).parameters
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        _declared[kind] = frozenset(parameters), takes_any
    return _declared[kind]


def cache_name(model) -> str:
    """
    Return the name of the cache argument of a model's forward method.

    Raises:
        ValueError: If the forward declares none of the names that transformers uses.

    Example:
    ```python
    >>> model(input_ids=ids, **{cache_name(model): cache}, use_cache=True)
    ```
    """
    declared = forward_parameters(model)
    for name in CACHE_NAMES:
        if name in declared:
            return name
    raise ValueError(
        f"`{type(unwrap_peft(model)).__name__}.forward` must take its cache as one of {list(CACHE_NAMES)}, but it "
        f"declares {sorted(declared)}. Use a model with a cache, and a supported version of transformers."
    )


def generate_cache_name() -> str:
    """Return the name under which `generate` takes a cache and passes it to a forward."""
    declared = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters  # pyright: ignore[reportAttributeAccessIssue]
    return next(name for name in CACHE_NAMES if name in declared)


def take_cache(kwargs: dict[str, Any]) -> Cache | None:
    """
    Remove the cache from keywords, under any of its names, and return it.

    Raises:
        ValueError: If the cache is given under two names.
    """
    given = {name: kwargs.pop(name, None) for name in CACHE_NAMES}
    given = {name: cache for name, cache in given.items() if cache is not None}
    if len(given) > 1:
        raise ValueError(f"One cache must be given, got {list(given)}. Pass `{next(iter(given))}` alone.")
    return next(iter(given.values()), None)


def cache_of(output) -> Cache | None:
    """Return the cache of a model output, under any of its names."""
    name = _cache_field_name(type(output))
    return None if name is None else getattr(output, name)


def cache_field(output_class: type, cache: Cache | None) -> dict[str, Cache | None]:
    """Return the cache keyword of an output class; transformers itself adds the deprecated names."""
    return {_cache_field_name(output_class): cache}  # pyright: ignore[reportReturnType]


_cache_fields: dict[type, str | None] = {}  # by class, since compiled forwards cannot list the fields of a class


def _cache_field_name(output_class: type) -> str | None:
    if output_class not in _cache_fields:
        names = {field.name for field in fields(output_class)}
        _cache_fields[output_class] = next((name for name in CACHE_NAMES if name in names), None)
    return _cache_fields[output_class]


def check_keywords(model, names) -> None:
    """
    Reject keywords that the forward of a model would silently ignore.

    Raises:
        ValueError: If a keyword is neither declared by the forward nor one that transformers passes to any model.
    """
    declared, takes_any = _declaration(model)
    common = TransformersKwargs.__optional_keys__ | {"return_dict", "output_hidden_states", "use_cache"}
    unknown = sorted(set(names) - declared - (common if takes_any else set()))
    if unknown:
        raise ValueError(
            f"`{type(unwrap_peft(model)).__name__}.forward` must get keywords that it handles, got "
            f"{', '.join(f'`{name}`' for name in unknown)}. Leave them out."
        )


def run_forward(
    model,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    cache: Cache | None = None,
    position_ids: Tensor | None = None,
    logits_to_keep: int | Tensor = 0,
    call: Callable | None = None,
    **kwargs,
):
    """
    Run a causal LM with the keywords that it declares.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model.
        input_ids (`torch.Tensor` of shape `(rows, new)`): Tokens to read.
        attention_mask (`torch.Tensor` of shape `(rows, seq)`, *optional*): 0 on padding, for the tokens in the cache
            and the new ones. Default: no padding.
        cache (`Cache`, *optional*): Cache of the preceding tokens, extended in place. Default: no cache.
        position_ids (`torch.Tensor` of shape `(rows, new)`, *optional*): Position of each new token. Default: counted
            along a 2-D mask.
        logits_to_keep (`int` or `torch.Tensor`, *optional*, defaults to 0): Number of last positions that need logits,
            or their indices; 0 for all. Ignored by models that always compute all of them.
        call (`callable`, *optional*): The compiled model, say. Default: the model.
        **kwargs: Other keywords of the model's forward.

    Returns:
        `ModelOutput` of the model.

    Raises:
        ValueError: If the model does not handle a keyword.
    """
    declared = forward_parameters(model)
    inputs: dict[str, Any] = {"input_ids": input_ids, **kwargs}
    if attention_mask is not None and _is_needed(attention_mask, declared, model):
        inputs["attention_mask"] = attention_mask
    if position_ids is None and isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
        position_ids = positions_of(attention_mask)[:, -input_ids.shape[1] :]
    if position_ids is not None and "position_ids" in declared:
        inputs["position_ids"] = position_ids
    if cache is not None:
        inputs[cache_name(model)] = cache
    if "use_cache" in declared or any(name in declared for name in CACHE_NAMES):
        inputs["use_cache"] = cache is not None
    inputs |= last_logits_only(model, logits_to_keep, input_ids.shape[1])
    check_keywords(model, inputs)
    return (model if call is None else call)(**inputs)


def _is_needed(attention_mask, declared, model) -> bool:
    if "attention_mask" in declared:
        return True
    if isinstance(attention_mask, Tensor) and bool(attention_mask.all()):
        return False
    raise ValueError(
        f"`{type(unwrap_peft(model)).__name__}.forward` has no attention mask, so rows must not be padded. Run one "
        "prompt at a time."
    )


def positions_of(attention_mask: Tensor) -> Tensor:
    """
    Return the position of every token, counted along the mask; 0 on leading padding.

    Example:
    ```python
    >>> positions_of(torch.tensor([[0, 1, 1]]))
    tensor([[0, 0, 1]])
    ```
    """
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def supports_logits_to_keep(model) -> bool:
    """Return whether a causal LM can compute the last logits only, by the rule that `generate` uses."""
    return bool(model._supports_logits_to_keep())


def last_logits_only(model, count: int | Tensor, length: int) -> dict[str, Any]:
    """Return the keyword that limits a forward over `length` tokens to the last logits; empty if the model has none."""
    if not supports_logits_to_keep(model):
        return {}
    return {"logits_to_keep": last_positions(count, length, model.device)}


def last_positions(count: int | Tensor, length: int, device: torch.device) -> int | Tensor:
    """
    Return `logits_to_keep` for the last `count` of `length` positions (0: all). Indices are returned unchanged.

    On a CPU a slice of several rows is strided, and a frozen LM head then copies its weights once per row, which takes
    480 ms where the product takes 5 ms. Positions that are selected by index are contiguous.

    Example:
    ```python
    >>> last_positions(2, 5, torch.device("cpu"))
    tensor([3, 4])
    ```
    """
    if isinstance(count, Tensor) or device.type != "cpu" or not 0 < count < length:
        return count
    return torch.arange(length - count, length)


def as_index(logits_to_keep: int | Tensor) -> slice | Tensor:
    """Return the index that selects the same positions from a tensor of all positions."""
    return logits_to_keep if isinstance(logits_to_keep, Tensor) else slice(-logits_to_keep, None)
