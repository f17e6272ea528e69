"""Tensor functions between token scores and sequence rewards."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def masked_sum(values: Float[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]) -> Float[Tensor, " batch"]:
    """
    Return the sum of the marked positions of each row. Other values are ignored, even NaN.

    Example:
    ```python
    >>> masked_sum(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[False, True, True]]))
    tensor([6.])
    ```
    """
    return values.masked_fill(~mask, 0).sum(-1)


def masked_mean(values: Float[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]) -> Float[Tensor, " batch"]:
    """
    Return the mean of the marked positions of each row; 0 for rows without any.

    Example:
    ```python
    >>> masked_mean(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[False, True, True]]))
    tensor([3.])
    ```
    """
    return masked_sum(values, mask) / mask.sum(-1).clamp(min=1)


def prefix_means(values: Float[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """
    Return the mean of the marked positions up to each position; 0 before the first one.

    Example:
    ```python
    >>> prefix_means(torch.tensor([[9.0, 2.0, 4.0]]), torch.tensor([[False, True, True]]))
    tensor([[0., 2., 3.]])
    ```
    """
    return values.masked_fill(~mask, 0).cumsum(-1) / mask.cumsum(-1).clamp(min=1)


def at_step_ends(
    values: Float[Tensor, "batch seq"], step_ends: Int[Tensor, "batch steps"]
) -> Float[Tensor, "batch steps"]:
    """
    Return the values at the ends of steps; NaN where `step_ends` is -1, which fills rows with fewer steps.

    Example:
    ```python
    >>> at_step_ends(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0, 2, -1]]))
    tensor([[1., 3., nan]])
    ```
    """
    return values.gather(-1, step_ends.clamp(min=0)).masked_fill(step_ends < 0, torch.nan)


def gather_step_logps(
    logits: tuple[Float[Tensor, "rows vocab"], ...], tokens: Int[Tensor, "rows new"]
) -> Float[Tensor, "rows new"]:
    """
    Return the log-probability of each generated token under the logits of its step, as `generate` returns them.

    Example:
    ```python
    >>> gather_step_logps(out.logits, out.sequences[:, prompt_length:])
    ```
    """
    steps = [step.float().log_softmax(-1).gather(-1, ids[:, None]) for step, ids in zip(logits, tokens.T, strict=True)]
    return torch.cat(steps, dim=-1)


def gather_token_logps(
    logits: Float[Tensor, "batch seq vocab"], targets: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq"]:
    r"""
    Return the log-probability of each target under the logits of the same position.

    $$ \log \pi(y_t) = z_{y_t} - \log \sum_v \exp z_v $$

    Shift the inputs before the call: the logits at position $t-1$ predict the token at $t$. No tensor of the shape of
    `logits` is allocated.

    Args:
        logits (`torch.Tensor` of shape `(batch, seq, vocab)`): Scores before the softmax, any float type.
        targets (`torch.Tensor` of shape `(batch, seq)`): Token ids.

    Returns:
        `torch.Tensor` of shape `(batch, seq)`: log-probabilities in nats, float32 (float64 for float64 logits).

    Example:
    ```python
    >>> gather_token_logps(torch.zeros(1, 1, 4), torch.tensor([[2]]))  # log(1/4)
    tensor([[-1.3863]])
    ```
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    chosen = logits.gather(-1, targets[..., None]).squeeze(-1).to(dtype)
    # Row by row, so that the float32 copy of half-precision logits never exceeds one row.
    normalizer = torch.stack([row.to(dtype).logsumexp(-1) for row in logits])
    return chosen - normalizer
