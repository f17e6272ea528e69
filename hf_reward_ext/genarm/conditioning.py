"""LoRA adapters whose change of a model depends on weights of objectives: one guide for K objectives."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_reward_ext.base.lm.lora_options import changes_beyond_products
from hf_reward_ext.genarm.lora_groups import lora_layers

_weights: ContextVar[Tensor | None] = ContextVar("hf_reward_ext_objective_weights", default=None)


class ConditionedDown(nn.Linear):
    r"""
    Down projection of a LoRA adapter, followed by a core that is linear in the weights $w$ of K objectives.

    $$ \Delta W(w) = s\,B\,\Big(I + \sum_k \big(w_k - \tfrac1K\big)\,C_k\Big)\,A $$

    A reconstruction after the bilinear adapters of [PARM](https://huggingface.co/papers/2505.06274). Without weights
    they count as equal, and the adapter is plain LoRA.

    Args:
        down (`nn.Linear`): Down projection $A$, whose weight is shared.
        num_objectives (`int`): Number of objectives, K.

    Attributes:
        core (`nn.Parameter` of shape `(objectives, rank, rank)`): The transposed $C_k$, random at first: $B$ is 0.
        training_weights (`torch.Tensor` of shape `(rows, objectives)`, *optional*): Weights of the rows in training
            mode. They stay until the next batch, since checkpointed activations are computed again in backward.
    """

    def __init__(self, down: nn.Linear, num_objectives: int):
        super().__init__(down.in_features, down.out_features, bias=False, device="meta")
        self.weight = down.weight
        rank = down.out_features
        self.core = nn.Parameter(torch.randn(num_objectives, rank, rank).to(down.weight) / rank**0.5)
        self.training_weights: Tensor | None = None
        self._kept: tuple[Tensor, Tensor] | None = None  # weights, and what is computed from them

    def forward(self, x: Tensor) -> Tensor:
        weights = _weights.get()
        if weights is None and self.training:
            weights = self.training_weights
        if weights is None:
            return super().forward(x)
        kept = self._kept
        if kept is None or kept[0] is not weights or torch.is_grad_enabled():
            kept = self._compute(weights)
        if weights.dim() == 1:
            return nn.functional.linear(x, kept[1])
        if x.dim() != 3 or len(x) != len(weights):
            raise ValueError(
                f"A conditioned layer must get one text per row of weights, got shape {tuple(x.shape)} for "
                f"{len(weights)} rows: this model mixes rows (a mixture of experts, say). Adapt its attention only, or "
                "use `fold_weights`."
            )
        down = super().forward(x)
        return torch.baddbmm(down, down, kept[1])

    def fold(self, weights: Float[Tensor, " objectives"]) -> Float[Tensor, "rank features"]:
        """Return the down projection of a plain adapter for given weights."""
        change = self._change(weights[None])[0]
        return self.weight + change.T @ self.weight

    def _change(self, weights: Float[Tensor, "rows objectives"]) -> Float[Tensor, "rows rank rank"]:
        centered = weights.to(self.core) - 1 / len(self.core)
        return (centered @ self.core.flatten(1)).view(-1, *self.core.shape[1:])

    def _compute(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and the projection or change that they give, kept for the same tensor unless trained."""
        computed = weights, self.fold(weights) if weights.dim() == 1 else self._change(weights)
        if not torch.is_grad_enabled():
            self._kept = computed
        return computed


def condition_adapter(peft_model, num_objectives: int) -> None:
    """
    Make the active LoRA adapter of a model depend on weights of objectives.

    Args:
        peft_model (`PeftModel`): Model with one plain LoRA adapter.
        num_objectives (`int`): Number of objectives, K.

    Raises:
        ValueError: If the adapter is not plain LoRA on linear layers.
    """
    layers = lora_layers(peft_model)
    changes = {} if not layers else changes_beyond_products(peft_model.active_peft_config)
    names = peft_model.active_adapters
    downs = [layer.lora_A[name] for layer in layers for name in names if name in layer.lora_A]
    if len(names) != 1 or changes or not downs or not all(type(down) is nn.Linear for down in downs):
        raise ValueError(
            "A conditioned guide must have one adapter of plain LoRA on linear layers, got "
            f"{', '.join(f'{key}={value!r}' for key, value in changes.items()) or sorted(peft_model.peft_config)}. Use "
            "`LoraConfig(task_type='CAUSAL_LM', target_modules='all-linear')`."
        )
    for layer in layers:
        if names[0] in layer.lora_A:
            layer.lora_A[names[0]] = ConditionedDown(layer.lora_A[names[0]], num_objectives)


def conditioned_layers(model) -> list[ConditionedDown]:
    """Return the conditioned layers of a model, none if it is not a conditioned guide."""
    return [module for module in model.modules() if isinstance(module, ConditionedDown)]


def num_objectives_of(model) -> int | None:
    """Return the number of objectives of a conditioned guide, `None` for other models."""
    layers = conditioned_layers(model)
    return len(layers[0].core) if layers else None


def refuse_conditioned(guides: Sequence) -> None:
    """
    Reject conditioned guides where no weights of objectives can be given.

    Raises:
        ValueError: If a guide is conditioned.
    """
    if any(num_objectives_of(guide) is not None for guide in guides):
        raise ValueError(
            "A guide of `GuidedCausalLM` must not be conditioned, got one. Pass it to `GenARMLogitsProcessor` with "
            "`weights=`, or call `fold_weights(guide, weights)` first."
        )


def fold_weights(peft_model, weights: Sequence[float] | Tensor) -> None:
    """
    Make a conditioned guide a plain LoRA adapter for given weights, in place.

    The result can be used as any adapter: as guide of [`GuidedCausalLM.from_peft`], merged, saved, or served. For other
    weights, load the guide again.

    Args:
        peft_model (`PeftModel`): Conditioned guide.
        weights (K floats): Weights of the objectives, at least 0, with a sum of 1.

    Raises:
        TypeError: If the model is not a conditioned guide.
        ValueError: If the weights are not K numbers with a sum of 1.

    Example:
    ```python
    >>> fold_weights(guide, [0.3, 0.7])
    >>> guide.save_pretrained("guide-30-70")
    ```
    """
    count = num_objectives_of(peft_model)
    if count is None:
        raise TypeError(
            f"`peft_model` must be a conditioned guide, got a `{type(peft_model).__name__}` without one. Load it with "
            "`load_conditioned_guide`."
        )
    own = checked_weights(weights, count)
    if own.dim() != 1:
        raise ValueError(f"`weights` must be one row of weights, got shape {tuple(own.shape)}. Fold one row at a time.")
    for layer in lora_layers(peft_model):
        for name, down in layer.lora_A.items():
            if isinstance(down, ConditionedDown):
                plain = nn.Linear(down.in_features, down.out_features, bias=False, device="meta")
                plain.weight = nn.Parameter(down.fold(own.to(down.core.device)).detach(), down.weight.requires_grad)
                layer.lora_A[name] = plain


@contextmanager
def objective_weights(weights: Float[Tensor, "*rows objectives"]) -> Iterator[None]:
    """
    Set the weights of the objectives for forwards of conditioned guides in this thread.

    Args:
        weights (`torch.Tensor` of shape `(K,)` or `(rows, K)`): Weights of all rows, or of each row.

    Example:
    ```python
    >>> with objective_weights(torch.tensor([0.3, 0.7])):
    ...     guide(**inputs)
    ```
    """
    with same_weights(weights.clone()):  # the guide may have been trained since these weights were used
        yield


@contextmanager
def same_weights(weights: Float[Tensor, "*rows objectives"]) -> Iterator[None]:
    """
    Set the weights as [`objective_weights`] does, for several forwards of a guide that does not change.

    Layers keep what they compute from a tensor of weights, and reuse it while they get the same tensor.
    """
    token = _weights.set(weights)
    try:
        yield
    finally:
        _weights.reset(token)


def checked_weights(weights, num_objectives: int) -> Tensor:
    """
    Return weights of objectives as a tensor of shape `(K,)` or `(B, K)`.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If their shape is another one, a weight is negative or not finite, or a sum is not 1.
    """
    try:
        values = torch.as_tensor(weights, dtype=torch.float32).detach().clone()  # not the memory of the caller
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`weights` must be numbers, got {weights!r}. Pass {num_objectives} floats with a sum of 1."
        ) from error
    if values.dim() not in (1, 2) or values.shape[-1] != num_objectives or len(values) == 0:
        raise ValueError(
            f"`weights` must be one number for each of the {num_objectives} objectives (K,), or a row of these per "
            f"prompt (B, K), got shape {tuple(values.shape)}. Use one of these."
        )
    if not bool((values >= 0).all()) or not torch.allclose(values.sum(-1), values.new_ones(()), atol=1e-3):
        raise ValueError(
            f"`weights` must be at least 0 with a sum of 1, got {values.tolist()}. Divide them by their sum, and "
            "strengthen the guide with `alpha`."
        )
    return values
