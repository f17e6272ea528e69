"""Whether the reward in training and a held-out reward of the same samples part."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Measured(NamedTuple):
    """
    Rewards of one evaluation.

    Args:
        step (`int`): Step of the training.
        trained, held_out (`np.ndarray` of shape `(prompts,)`): Mean rewards of the samples of each prompt; NaN without
            any.
    """

    step: int
    trained: Float[np.ndarray, " prompts"]
    held_out: Float[np.ndarray, " prompts"]


class Parting(NamedTuple):
    """
    Change since the evaluation with the best held-out reward.

    Args:
        since (`int`): Step of that evaluation.
        trained, held_out (`tuple[float, float]`): Mean reward then and now.
        trained_errors, held_out_errors (`float`): Change in standard errors over prompts.
    """

    since: int
    trained: tuple[float, float]
    held_out: tuple[float, float]
    trained_errors: float
    held_out_errors: float

    def is_beyond(self, threshold: float) -> bool:
        """Return whether the reward in training rose and the held-out one fell by so many standard errors."""
        return self.trained_errors > threshold and self.held_out_errors < -threshold


def parting(earlier: Sequence[Measured], now: Measured) -> Parting:
    r"""
    Compare an evaluation with the earlier one that had the best held-out reward, prompt by prompt.

    $$ z = \frac{\bar d}{s_d / \sqrt{n}}, \qquad d_i = r_i - r^{best}_i $$

    Prompts without a reward at one of the two are left out.

    Args:
        earlier (`list` of [`Measured`]): Earlier evaluations, at least one.
        now ([`Measured`]): Evaluation to compare.

    Example:
    ```python
    >>> first, second = Measured(0, np.zeros(3), np.ones(3)), Measured(5, np.ones(3), np.zeros(3))
    >>> parting([first], second).is_beyond(3)
    True
    ```
    """
    best = max(earlier, key=lambda one: _mean(one.held_out))
    return Parting(
        best.step,
        (_mean(best.trained), _mean(now.trained)),
        (_mean(best.held_out), _mean(now.held_out)),
        _errors(now.trained - best.trained),
        _errors(now.held_out - best.held_out),
    )


def _mean(values: np.ndarray) -> float:
    return -math.inf if np.isnan(values).all() else float(np.nanmean(values))


def _errors(changes: np.ndarray) -> float:
    """Return the mean change in standard errors; 0 for fewer than two prompts."""
    changes = changes[~np.isnan(changes)]
    if len(changes) < 2:
        return 0.0
    mean, error = float(changes.mean()), float(changes.std(ddof=1)) / math.sqrt(len(changes))
    if error == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / error
