"""Advantages of the tokens of completions from the rewards of their steps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_DEVIATION = 1e-4  # as in TRL


def step_advantages(
    rewards: Sequence[Sequence[float] | None], ends: Sequence[Sequence[int]], num_generations: int, width: int
) -> Float[Tensor, "rows {width}"]:
    r"""
    Return the sum of the normalized rewards of the step of each token and of all later steps.

    $$ A_{i,t} = \sum_{j:\, e_{ij} \ge t} \frac{r_{ij} - \operatorname{mean}(R)}{\operatorname{std}(R)} $$

    $e_{ij}$ is the last token of step $j$ of completion $i$, and $R$ are the rewards of all steps of all completions
    of a prompt. Source: [DeepSeekMath](https://huggingface.co/papers/2402.03300), process supervision in GRPO.

    Args:
        rewards (`list` of `list[float]` or `None`): Rewards of the steps of each completion, the completions of a
            prompt in a row; completions without rewards have no advantage.
        ends (`list` of `list[int]`): Last token of each step.
        num_generations (`int`): Number of completions per prompt.
        width (`int`): Number of tokens of the longest completion.

    Example:
    ```python
    >>> step_advantages([[1.0, 3.0], [2.0]], [[0, 1], [1]], 2, 3)
    tensor([[ 0.0000,  0.9999,  0.0000],
            [ 0.0000,  0.0000,  0.0000]])
    ```
    """
    advantages = torch.zeros(len(rewards), width)
    for start in range(0, len(rewards), num_generations):
        group = range(start, min(start + num_generations, len(rewards)))
        values = torch.tensor([reward for row in group for reward in rewards[row] or ()])
        if len(values) < 2:
            continue
        mean, deviation = values.mean(), values.std() + _LEAST_DEVIATION
        for row in group:
            for reward, end in zip(rewards[row] or (), ends[row], strict=False):
                advantages[row, : end + 1] += (reward - mean) / deviation
    return advantages
