"""Sizes of the experiments, and how the results of several seeds become rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hf_reward_ext.evaluation import mean_with_interval


@dataclass(frozen=True)
class Size:
    """
    Numbers of an experiment.

    Args:
        num_train, num_validation, num_test (`int`): Numbers of problems of each split of a generated task.
        num_samples (`int`): Number of candidates per training and validation problem.
        num_candidates (`int`): Number of candidates per test problem.
        num_labels (`tuple[int]`): Numbers of labels of the heads.
        num_pairs (`int`): Number of preference pairs that models are trained on.
        num_test_pairs (`int`): Number of held-out pairs.
        num_searched (`int`): Number of test problems of the look-ahead.
        num_guided (`int`): Number of guided samples per test problem.
        seeds (`tuple[int]`): Seeds of training.
        head_epochs (`int`): Number of epochs of the heads.
    """

    num_train: int = 500
    num_validation: int = 40
    num_test: int = 80
    num_samples: int = 8
    num_candidates: int = 64
    num_labels: tuple[int, ...] = (100, 400, 1600, 4000)
    num_pairs: int = 240
    num_test_pairs: int = 400
    num_searched: int = 48
    num_guided: int = 2
    seeds: tuple[int, ...] = (0, 1, 2)
    head_epochs: int = 40


SMALL = Size(
    num_train=8, num_validation=3, num_test=3, num_samples=4, num_candidates=4, num_labels=(8, 16), num_pairs=6,
    num_test_pairs=6, num_searched=2, num_guided=2, seeds=(0, 1), head_epochs=2,
)  # fmt: skip


def result(method: str, what: str, by_seed: ArrayLike, tokens: float | None = None, **more) -> dict:
    """
    Return a row: the mean over seeds and problems, its interval, and the mean of each seed.

    The interval is a bootstrap over problems, of the means over seeds: seeds share the problems.

    Args:
        method, what (`str`): Name of the row, and its short description.
        by_seed (`ArrayLike` of shape `(seeds, problems)` or `(problems,)`): Result of each problem.
        tokens (`float`, *optional*): Number of generated tokens per problem.
        **more: Other values of the row.
    """
    values = np.atleast_2d(np.asarray(by_seed, dtype=float))
    estimate = mean_with_interval(values.mean(0))
    row = {
        "method": method,
        "what": what,
        "accuracy": [round(value, 4) for value in estimate],
        "by_seed": [round(value, 4) for value in values.mean(1).tolist()],
        "problems": values.shape[1],
        **more,
    }
    return row if tokens is None else {**row, "tokens": round(float(tokens), 1)}
