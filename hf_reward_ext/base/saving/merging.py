"""Weighted sum of the weights of models that were trained from one checkpoint."""

import copy
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

# Config fields that identify the base model of a saved part.
_POINTERS = ("base_model_name_or_path", "base_model_revision", "adapter", "layers")


@torch.no_grad()
def merge_models(models: Sequence[PreTrainedModel], weights: Sequence[float] | None = None) -> PreTrainedModel:
    r"""
    Return the linear merge of reward models, guides or heads that were trained from one checkpoint.

    $$ \theta = \sum_k w_k \theta_k, \qquad \sum_k w_k = 1 $$

    The result costs as much as one model. It does not compute the mean of the rewards: for that use [`WeightedReward`],
    or several guides in one [`GenARMLogitsProcessor`].

    Args:
        models (`list` of `PreTrainedModel`): Models of one class and shape, which are not changed.
        weights (`list[float]`, *optional*): One weight per model, with the sum 1. Default: equal weights.

    Returns:
        `PreTrainedModel`: A new model, in the float type of the first; sums are taken in float32 or wider.

    Raises:
        TypeError: If a model is an adapter.
        ValueError: If the weights are invalid, or the models differ in shape or base.

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


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    shares = [1 / count] * count if weights is None and count else [float(weight) for weight in weights or []]
    if not shares or len(shares) != count or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"`weights` must have one number for each of the {count} models, with the sum 1, got {weights}. "
            "Divide them by their sum."
        )
    return shares


def _check_models(models: list[PreTrainedModel]) -> None:
    first = models[0]
    shapes = {name: values.shape for name, values in first.state_dict().items()}
    for model in models:
        if hasattr(model, "peft_config"):
            raise TypeError("`models` must be whole models, got a `PeftModel`. Use `merge_adapters`.")
        own = {name: values.shape for name, values in model.state_dict().items()}
        if type(model) is not type(first) or own != shapes:
            raise ValueError(
                f"`models` must have one class and shape, got a `{type(first).__name__}` and a "
                f"`{type(model).__name__}` with other weights. Merge models that were trained from one checkpoint."
            )
        for field in _POINTERS:
            given, needed = (getattr(one.config, field, None) for one in (model, first))
            if given != needed:
                raise ValueError(
                    f"`models` must have one base model, got `{field}={needed!r}` and `{field}={given!r}`. "
                    "Merge models that were trained from one checkpoint."
                )
