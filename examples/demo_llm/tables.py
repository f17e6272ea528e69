"""Rows of the result tables."""

import numpy as np
from numpy.typing import ArrayLike

from hf_reward_ext.evaluation import mean_with_interval


def row(method: str, what: str, right: ArrayLike, tokens: ArrayLike, **more) -> dict:
    """
    Return a row with the accuracy and its 95 % interval.

    Args:
        method, what (`str`): Name of the row, and its short description.
        right (`ArrayLike`): Accuracy of each problem.
        tokens (`float`): Number of generated tokens per problem.
        **more: Other values of the row.
    """
    values = np.asarray(right, dtype=float)
    estimate = mean_with_interval(values)
    return {
        "method": method,
        "what": what,
        "accuracy": [round(value, 4) for value in (estimate.value, estimate.lower, estimate.upper)],
        "tokens": round(np.asarray(tokens).item(), 1),
        "right": [round(value, 4) for value in values.tolist()],
        **more,
    }
