"""Conversion of a scorer's return values to numbers, with one check for all kinds of scorers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

Rewards = list[float | None]
"""One number per completion; `None` where the scorer has no answer."""


def check_rewards(returned: Any, prompts: Sequence, name: str, *, nan_is_missing: bool = False) -> Rewards:
    """
    Convert the return value of a scorer to plain numbers.

    Args:
        returned (`list`, `torch.Tensor`, `np.ndarray` or another iterable): Return value of the scorer: one real number
            or `None` per completion.
        prompts (`list`): The prompts of the completions, for messages.
        name (`str`): Name of the scorer, for messages.
        nan_is_missing (`bool`, *optional*, defaults to `False`): Whether NaN means `None`, as in TRL's trainers.

    Raises:
        TypeError: If it is not a list of numbers; the message names the first other value.
        ValueError: If a number is missing, NaN or infinite; the message names the completion.

    Example:
    ```python
    >>> check_rewards(torch.tensor([1.0, 2.0]), ["a", "b"], "length")
    [1.0, 2.0]
    ```
    """
    values = _as_list(returned, len(prompts), name)
    rewards = [_as_number(value, index, prompts, name) for index, value in enumerate(values)]
    if nan_is_missing:
        rewards = [None if reward is not None and math.isnan(reward) else reward for reward in rewards]
    broken = [index for index, reward in enumerate(rewards) if reward is not None and not math.isfinite(reward)]
    if broken:
        raise ValueError(
            f"`{name}` returned NaN or infinity for {len(broken)} of {len(rewards)} responses, first for "
            f"{_describe(broken[0], prompts)}, but a reward must be a finite number. Return `None` where there is no "
            "answer; run a model in bfloat16 or float32."
        )
    return rewards


def _as_list(returned: Any, count: int, name: str) -> list:
    if isinstance(returned, Tensor | np.ndarray):
        shape = tuple(returned.shape)
        returned = returned.detach().cpu() if isinstance(returned, Tensor) else returned
        values = returned.tolist() if len(shape) else [returned.item()]
    elif isinstance(returned, str | bytes | Mapping | set | frozenset) or not isinstance(returned, Iterable):
        raise TypeError(
            f"`{name}` returned a `{type(returned).__name__}`, but it must return a list with one number per "
            "completion. Return that list."
        )
    else:
        values = list(returned)
        shape = (len(values),)
    if shape != (count,):
        raise ValueError(
            f"`{name}` returned shape {shape} for {count} responses, but it needs one number for each. Return a list "
            "of that length, with `None` where there is no answer."
        )
    return values


def _as_number(value: Any, index: int, prompts: Sequence, name: str) -> float | None:
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) == 1:
        value = value.item()
    if value is None:
        return None
    if isinstance(value, Real | Decimal | np.bool_):
        return float(value)
    raise TypeError(
        f"`{name}` returned a `{type(value).__name__}` for {_describe(index, prompts)}, but a reward must be a real "
        "number or `None`. Return a float."
    )


def _describe(index: int, prompts: Sequence) -> str:
    return f"response {index}, to the prompt {str(prompts[index])[:80]!r}"
