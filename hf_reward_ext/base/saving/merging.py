"""Several trained models of one base become one, by a weighted sum of their weights."""

import copy
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

# A config's fields that tell what a saved part belongs to.
_POINTERS = ("base_model_name_or_path", "base_model_revision", "adapter", "layers")


@torch.no_grad()
def merge_models(models: Sequence[PreTrainedModel], weights: Sequence[float] | None = None) -> PreTrainedModel:
    r"""
    Linear merge of reward models, guides or heads that were trained from one checkpoint.

    $$ \theta = \sum_k w_k \theta_k, \qquad \sum_k w_k = 1 $$

    One model then stands for K, at the cost of one. It is no mean of their rewards: that is [`WeightedReward`], or
    several guides in one [`GenARMLogitsProcessor`].

    Args:
        models (`list` of `PreTrainedModel`): Of one class and shape; they stay as they are.
        weights (`list[float]`, *optional*): One per model, summing to one. Default: equal ones.

    Returns:
        `PreTrainedModel`: A new model, in the float type of the first; sums are taken in float32 or wider.

    Raises:
        TypeError: If a model is an adapter.
        ValueError: If weights or models do not fit.

    Example:
    ```python
    >>> guide = merge_models([helpful, harmless], [0.7, 0.3])
    ```
    """
    models = list(models)
    shares = _shares(weights, len(models))
    _check_models(models)
    merged = copy.deepcopy(models[0])
    states = [model.state_dict() for model in models]
    for name, values in merged.state_dict().items():
        if not values.is_floating_point():
            continue
        dtype = torch.promote_types(values.dtype, torch.float32)
        parts = [share * state[name].to(values.device, dtype) for share, state in zip(shares, states, strict=True)]
        values.copy_(torch.stack(parts).sum(0))
    merged.config._name_or_path = ""
    return merged


def merge_adapters(peft_model, adapters: Sequence[str], weights: Sequence[float], name: str = "merged"):
    r"""
    LoRA adapters on one model become one more adapter whose change of every weight is the weighted sum of theirs.

    $$ \Delta W = \sum_k w_k\, s_k B_k A_k $$

    Exact, by adapters side by side (rank $\sum_k r_k$), where a sum of $A_k$ and of $B_k$ would bring cross terms.

    Args:
        peft_model (`PeftModel`): With the adapters loaded; the new one is loaded too, and active.
        adapters (`list[str]`): Their names.
        weights (`list[float]`): One per adapter, of any sum.
        name (`str`, *optional*, defaults to `"merged"`): Of the new one.

    Returns:
        `PeftModel`: The same model.

    Raises:
        ValueError: If names or weights do not fit, or adapters change more than LoRA weights.

    Example:
    ```python
    >>> merge_adapters(model, ["helpful", "harmless"], [0.7, 0.3])
    >>> GuidedCausalLM.from_peft(model, adapters=["merged"])
    ```
    """
    adapters = list(adapters)
    missing = [adapter for adapter in adapters if adapter not in peft_model.peft_config]
    if missing or name in peft_model.peft_config:
        raise ValueError(
            f"`adapters={adapters}` are to be merged into {name!r}, but the model has "
            f"{sorted(peft_model.peft_config)}. Load the missing ones, and choose another name for the result."
        )
    if len(weights) != len(adapters):
        raise ValueError(f"{len(weights)} weights were given for {len(adapters)} adapters. Pass one per adapter.")
    for adapter in adapters:
        config = peft_model.peft_config[adapter]
        if config.modules_to_save or config.bias != "none" or config.use_dora:
            raise ValueError(
                f"The adapter {adapter!r} changes more than LoRA weights (modules_to_save={config.modules_to_save}, "
                f"bias={config.bias!r}, use_dora={config.use_dora}), but only those add up. Merge each into a copy of "
                "the base with `merge_and_unload`, and those with `merge_models`."
            )
    peft_model.add_weighted_adapter(adapters, [float(weight) for weight in weights], name, combination_type="cat")
    peft_model.set_adapter(name)
    return peft_model


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    shares = [1 / count] * count if weights is None and count else [float(weight) for weight in weights or []]
    if not shares or len(shares) != count or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"`weights={weights}` were given for {count} models, but a merge needs one weight each, with the sum one. "
            "Divide them by their sum."
        )
    return shares


def _check_models(models: list[PreTrainedModel]) -> None:
    first = models[0]
    shapes = {name: values.shape for name, values in first.state_dict().items()}
    for model in models:
        if hasattr(model, "peft_config"):
            raise TypeError("A `PeftModel` was given, but whole models are merged. Use `merge_adapters`.")
        own = {name: values.shape for name, values in model.state_dict().items()}
        if type(model) is not type(first) or own != shapes:
            raise ValueError(
                f"A `{type(model).__name__}` was given beside a `{type(first).__name__}` of other weights, but only "
                "models of one shape add up. Merge models that were trained from one checkpoint."
            )
        for field in _POINTERS:
            given, needed = (getattr(one.config, field, None) for one in (model, first))
            if given != needed:
                raise ValueError(
                    f"A model with `{field}={given!r}` was given beside one with `{field}={needed!r}`, but weights add "
                    "up only on one base. Merge models that were trained from one checkpoint."
                )
