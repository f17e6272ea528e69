"""Weights of guides: a number, one per guide, one per prompt and guide, or a schedule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_reward_ext.base.options import check_callable

Alpha = float | Sequence[float] | Tensor
Schedule = Callable[[int], Alpha]


@dataclass(frozen=True, eq=False)
class GuideWeights:
    r"""
    Weights $\alpha_{r,k}$ of K guides for every row, and for every token with a schedule.

    Args:
        alpha (`float`, K floats, `torch.Tensor` of shape `(K,)` or `(B, K)`, or `callable`): Weights. Weights of a
            prompt apply to all its beams and return sequences. A callable receives the number of tokens generated
            before the current one, and returns any of the other forms.
        num_guides (`int`): Number of guides, K.

    Raises:
        TypeError: If the weights are not numbers.
        ValueError: If their shape is not (), (K,) or (B, K), or a weight is not finite. A schedule is checked at each
            call.

    Example:
    ```python
    >>> weights = GuideWeights(lambda step: 1.0 if step < 2 else 0.0, num_guides=1)
    >>> weights.of_columns(torch.tensor([4, 5, 6]), prompt_length=4, rows=1, device=torch.device("cpu"))
    tensor([[[1.], [1.], [0.]]])
    ```
    """

    alpha: Alpha | Schedule
    num_guides: int
    _constant: Tensor | None = field(init=False, repr=False, default=None)

    def __post_init__(self):
        if callable(self.alpha):
            check_callable("alpha", self.alpha, ["step"])
        else:
            object.__setattr__(self, "_constant", _checked(self.alpha, self.num_guides, "alpha"))

    @property
    def is_schedule(self) -> bool:
        return callable(self.alpha)

    def of_columns(
        self, columns: Int[Tensor, " columns"], prompt_length: int, rows: int, device: torch.device
    ) -> Float[Tensor, "rows columns guides"]:
        """
        Return the weights for choosing the tokens of given columns.

        Args:
            columns (`torch.Tensor` of shape `(columns,)`): Columns of the tokens; columns of the prompt are
                treated as the first generated token.
            prompt_length (`int`): Number of columns of the prompts.
            rows (`int`): Number of generated rows.
            device (`torch.device`): Device of the result.

        Raises:
            ValueError: If there are weights for B prompts and `rows` is no multiple of B, or a schedule returns wrong
                weights.
        """
        if self._constant is not None:
            weights = _for_rows(self._constant, self.num_guides, rows, device)
            return weights[:, None].expand(-1, len(columns), -1)
        steps = (columns - prompt_length).clamp(min=0).tolist()
        return torch.stack([self._scheduled(step, rows, device) for step in steps], dim=1)

    def _scheduled(self, step: int, rows: int, device: torch.device) -> Float[Tensor, "rows guides"]:
        weights = _checked(self.alpha(step), self.num_guides, f"alpha({step})")  # pyright: ignore[reportCallIssue]
        return _for_rows(weights, self.num_guides, rows, device)


def _checked(alpha, num_guides: int, name: str) -> Tensor:
    try:
        weights = torch.as_tensor(alpha, dtype=torch.float32).detach().clone()  # not the memory of the caller
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`{name}` must be numbers, got {alpha!r}. Use a float, a float per guide, or a tensor of shape (B, K)."
        ) from error
    if weights.dim() > 2 or len(weights.view(-1)) == 0 or (weights.dim() > 0 and weights.shape[-1] != num_guides):
        raise ValueError(
            f"`{name}` must be a number, one per guide (K,), or a row of these per prompt (B, K), got shape "
            f"{tuple(weights.shape)} for {num_guides} guide(s). Use one of these."
        )
    if not weights.isfinite().all():
        raise ValueError(f"`{name}` must be finite, got {weights.tolist()}. Use finite numbers.")
    return weights


def _for_rows(weights: Tensor, num_guides: int, rows: int, device: torch.device) -> Float[Tensor, "rows guides"]:
    weights = weights.to(device)
    if weights.dim() < 2:
        return weights.expand(rows, num_guides)
    if rows % len(weights):
        raise ValueError(
            f"`alpha` must have one row of weights per prompt, got {len(weights)} for {rows} generated rows, which is "
            "no multiple of it. Use one row per prompt."
        )
    return weights.repeat_interleave(rows // len(weights), dim=0)
