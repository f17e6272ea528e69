"""Weighted sums of LoRA adapters, as one adapter."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from peft import LoraConfig, PeftModel, PeftType
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from hf_reward_ext.base.lm.lora_options import changes_beyond_products

_REMEDY = "Merge each adapter into a copy of the base with `merge_and_unload`, and add those up with `merge_models`."


class _Change(NamedTuple):
    """Change of a layer by an adapter of scale 1: B A added to its weight, and a bias."""

    down: Float[Tensor, "rank ..."]
    up: Float[Tensor, "outputs rank ..."]
    bias: Float[Tensor, " outputs"] | None


@torch.no_grad()
def merge_adapters(
    peft_model: PeftModel, adapters: Sequence[str], weights: Sequence[float], name: str = "merged"
) -> PeftModel:
    r"""
    Add a LoRA adapter whose change of every weight is the weighted sum of the changes by several adapters.

    $$ \Delta W = \sum_k w_k\, s_k B_k A_k, \qquad \Delta b = \sum_k w_k\, s_k b_k $$

    The sum is exact: the adapters are concatenated (rank $\sum_k r_k$), whereas sums of the $A_k$ and of the $B_k$
    would have cross terms. Each adapter may have its own rank, scale (rsLoRA too), target layers and LoRA bias. A KaSA
    adapter, which changes the base too, is copied alone.

    Args:
        peft_model (`PeftModel`): Model with the adapters loaded. The new adapter is loaded too, and active.
        adapters (`list[str]`): Names of the adapters.
        weights (`list[float]`): One finite weight per adapter, with any sum.
        name (`str`, *optional*, defaults to `"merged"`): Name of the new adapter.

    Returns:
        `PeftModel`: The same model.

    Raises:
        TypeError: If the model is no `PeftModel`, or `adapters` is one string.
        ValueError: If names or weights are invalid, an adapter changes more than a product $B A$ does, or an adapter is
            merged into the base .

    Example:
    ```python
    >>> merge_adapters(model, ["helpful", "harmless"], [0.7, 0.3])
    >>> GuidedCausalLM.from_peft(model, adapters=["merged"])
    ```
    """
    adapters, weights = _check_names(peft_model, adapters, weights, name)
    for adapter in adapters:
        _check_is_lora_product(adapter, peft_model.peft_config[adapter], len(adapters) == 1)
    layers = _adapted_layers(peft_model, adapters)
    changes = {path: _add_side_by_side(layer, adapters, weights) for path, layer in layers.items()}
    peft_model.add_adapter(name, _joint_config(peft_model.peft_config[adapters[0]], changes))  # pyright: ignore[reportArgumentType]
    for path, layer in _lora_layers(peft_model).items():
        if path in changes:
            _fill(layer, name, changes[path])
        elif _holds(layer, name):  # its name ends like that of an adapted layer, but no adapter changes it
            layer.reset_lora_parameters(name, True)
    peft_model.set_adapter(name, inference_mode=peft_model.peft_config[name].inference_mode)
    return peft_model


def _check_names(
    peft_model: PeftModel, adapters: Sequence[str], weights: Sequence[float], name: str
) -> tuple[list[str], list[float]]:
    if not isinstance(peft_model, PeftModel):
        raise TypeError(
            f"`peft_model` must be a `PeftModel`, got `{type(peft_model).__name__}`. Load the adapters with "
            "`PeftModel.from_pretrained`; add whole models up with `merge_models`."
        )
    if isinstance(adapters, str):
        raise TypeError(f"`adapters` must be a list of names, got {adapters!r}. Pass `[{adapters!r}]`.")
    adapters, weights = list(adapters), [float(weight) for weight in weights]
    missing = [adapter for adapter in adapters if adapter not in peft_model.peft_config]
    if not adapters or missing or name in peft_model.peft_config:
        raise ValueError(
            f"`adapters` must be names of loaded adapters and `name` a new one, got {adapters} and {name!r} for a "
            f"model that has {sorted(peft_model.peft_config)}. Load the missing ones, or choose another name."
        )
    if len(weights) != len(adapters) or not all(map(math.isfinite, weights)):
        raise ValueError(
            f"`weights` must be one finite number per adapter ({len(adapters)}), got {weights}. Pass one per adapter."
        )
    return adapters, weights


def _check_is_lora_product(adapter: str, config, is_alone: bool) -> None:
    """Reject an adapter that changes anything other than `s B A` and a bias of its layers."""
    if config.peft_type != PeftType.LORA:
        raise ValueError(f"The adapter {adapter!r} must be a LoRA adapter, got {config.peft_type.value}. {_REMEDY}")
    others = changes_beyond_products(config)
    if is_alone:
        others.pop("kasa_config", None)  # a single adapter keeps its rank, which PEFT uses to truncate the base again
    if others:
        raise ValueError(
            f"The adapter {adapter!r} must change weights by LoRA products only, got "
            f"{', '.join(f'{field}={value!r}' for field, value in others.items())}, which do not add up. {_REMEDY}"
        )


def _lora_layers(peft_model: PeftModel) -> dict[str, LoraLayer]:
    base = peft_model.get_base_model()
    return {path: module for path, module in base.named_modules() if isinstance(module, LoraLayer)}


def _adapted_layers(peft_model: PeftModel, adapters: list[str]) -> dict[str, LoraLayer]:
    layers = _lora_layers(peft_model)
    merged = sorted({adapter for layer in layers.values() for adapter in layer.merged_adapters})
    if merged:
        raise ValueError(
            f"No adapter may be merged into the base while adapters are added up, got {merged}. Call "
            "`unmerge_adapter` first."
        )
    return {path: layer for path, layer in layers.items() if any(_holds(layer, adapter) for adapter in adapters)}


def _holds(layer: LoraLayer, adapter: str) -> bool:
    return adapter in layer.lora_A or adapter in layer.lora_embedding_A


def _parts(layer: LoraLayer, adapter: str) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
    """Return A, B and the bias of B."""
    if adapter in layer.lora_embedding_A:
        return layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter], None
    return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, layer.lora_B[adapter].bias  # pyright: ignore[reportReturnType]


def _diagonal(layer: LoraLayer, adapter: str) -> nn.Parameter | None:
    """Return the singular values that KaSA has between A and B."""
    return layer.lora_diag[adapter] if adapter in getattr(layer, "lora_diag", ()) else None  # pyright: ignore[reportAttributeAccessIssue]


def _add_side_by_side(layer: LoraLayer, adapters: list[str], weights: list[float]) -> _Change:
    downs, ups, biases = [], [], []
    for adapter, weight in zip(adapters, weights, strict=True):
        if not _holds(layer, adapter):
            continue
        down, up, bias = _parts(layer, adapter)
        diagonal = _diagonal(layer, adapter)
        # Scaled in float32 or wider, because in half precision even the scale of one adapter is rounded.
        dtype, scale = torch.promote_types(down.dtype, torch.float32), weight * layer.scaling[adapter]
        down = down.to(dtype) * scale
        downs.append(down if diagonal is None else diagonal.to(dtype)[:, None] * down)
        ups.append(up.to(dtype))
        if bias is not None:
            biases.append(bias.to(dtype) * scale)
    return _Change(torch.cat(downs), torch.cat(ups, dim=1), torch.stack(biases).sum(0) if biases else None)


def _joint_config(first: LoraConfig, changes: dict[str, _Change]) -> LoraConfig:
    rank = max(len(change.down) for change in changes.values())
    others = {re.escape(path): len(change.down) for path, change in changes.items() if len(change.down) != rank}
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        rank_pattern=others,
        alpha_pattern=dict(others),  # makes every scale 1
        target_modules=sorted(changes),
        lora_bias=any(change.bias is not None for change in changes.values()),
        fan_in_fan_out=first.fan_in_fan_out,
        task_type=first.task_type,
        base_model_name_or_path=first.base_model_name_or_path,
        revision=first.revision,
        inference_mode=first.inference_mode,
        **({"kasa_config": kasa} if (kasa := getattr(first, "kasa_config", None)) else {}),  # not in old PEFT
    )


def _fill(layer: LoraLayer, name: str, change: _Change) -> None:
    down, up, bias = _parts(layer, name)
    down.data, up.data = change.down, change.up
    if bias is not None:
        bias.data = torch.zeros_like(bias, dtype=up.dtype) if change.bias is None else change.bias
    diagonal = _diagonal(layer, name)
    if diagonal is not None:
        diagonal.data.fill_(1)
