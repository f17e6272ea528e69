"""One model out of several that were trained from one checkpoint: the weighted sum of their weights."""

import copy
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

# Config fields that name what a saved part belongs to.
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
