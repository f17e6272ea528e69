"""The weights of the guides: a number, one per guide, one per prompt and guide, or a schedule of them."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Alpha = float | Sequence[float] | Tensor
Schedule = Callable[[int], Alpha]


def check_alpha(alpha: Alpha | Schedule, num_guides: int) -> None:
    """
    Refuses weights that do not fit the guides; a schedule is checked at step 0.

    Raises:
        ValueError: If the shape is not (), (K,) or (B, K), or a weight is not finite.
    """
    weights = torch.as_tensor(alpha(0) if callable(alpha) else alpha, dtype=torch.float32)
    fits = weights.dim() == 0 or (weights.dim() in (1, 2) and weights.shape[-1] == num_guides)
    if not fits:
        raise ValueError(
            f"`alpha` of shape {tuple(weights.shape)} was given with {num_guides} guide(s), but it is a number, one "
            "per guide (K,), or one per prompt and guide (B, K). Pass one of these."
        )
    if not weights.isfinite().all():
        raise ValueError(f"`alpha={weights.tolist()}` was given, but weights are finite. Pass finite numbers.")


def alpha_rows(
    alpha: Alpha | Schedule, step: int, rows: int, num_guides: int, device: torch.device
) -> Float[Tensor, "rows guides"]:
    """
    The weights of every row at a step; those of a prompt go to all its beams and return sequences.

    Raises:
        ValueError: If there are weights for B prompts and `rows` is not a multiple of B.
    """
    weights = torch.as_tensor(alpha(step) if callable(alpha) else alpha, dtype=torch.float32, device=device)
    if weights.dim() < 2:
        return weights.expand(rows, num_guides)
    if rows % len(weights):
        raise ValueError(
            f"`alpha` has weights for {len(weights)} prompts, but {rows} rows are generated, which is no multiple of "
            "it. Pass one row of weights per prompt."
        )
    return weights.repeat_interleave(rows // len(weights), dim=0)
