"""Accuracy of choosing among k of N candidates, for every k."""

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from hf_reward_ext.base.scoring.votes import majority_vote
from hf_reward_ext.base.stats.intervals import Estimate, mean_with_interval


def best_of_n_curve(
    rewards: np.ndarray, correct: np.ndarray, ks: Sequence[int] | None = None, **interval_kwargs
) -> dict[int, Estimate]:
    r"""
    Return the exact expected accuracy of the best candidate among k drawn without replacement.

    $$ \operatorname{BoN@}k = \sum_{j=0}^{N-1} \frac{\binom{N-1-j}{k-1}}{\binom{N}{k}} y_{(j)} $$

    with $y_{(j)}$ the correctness of the candidate of rank $j$. Equal rewards rank in the order of the candidates. The
    authors' evaluation uses the first k candidates instead.

    Args:
        rewards, correct (`np.ndarray` of shape `(prompts, candidates)`): Rewards, and 1 for correct candidates.
        ks (`list[int]`, *optional*): Values of k. Default: 1 to N.
        **interval_kwargs: Arguments of [`mean_with_interval`].

    Returns:
        `dict` from k to [`Estimate`].

    Raises:
        ValueError: If shapes differ, a reward is NaN, or k is not in 1..N.

    Example:
    ```python
    >>> best_of_n_curve(np.array([[0.1, 0.9]]), np.array([[0, 1]]))[2].value
    1.0
    ```
    """
    rewards, correct = np.asarray(rewards, dtype=float), np.asarray(correct, dtype=float)
    if rewards.shape != correct.shape or rewards.ndim != 2 or np.isnan(rewards).any():
        raise ValueError(
            "`rewards` and `correct` must have one shape (prompts, candidates), got rewards of shape "
            f"{rewards.shape} ({int(np.isnan(rewards).sum())} NaN) and labels of shape {correct.shape}. Pass one of "
            "each per candidate."
        )
    order = np.argsort(-rewards, axis=1, kind="stable")
    ranked = np.take_along_axis(correct, order, axis=1)
    return {
        k: mean_with_interval(ranked @ chances_by_rank(ranked.shape[1], k), **interval_kwargs) for k in _ks(ranked, ks)
    }


def pass_at_k(correct: np.ndarray, ks: Sequence[int] | None = None, **interval_kwargs) -> dict[int, Estimate]:
    r"""
    Return the expected share of prompts with a correct candidate among k.

    $$ 1 - \binom{N-c}{k} / \binom{N}{k} $$

    $c$ of the $N$ candidates are correct. It is the upper bound of any choice. Arguments and errors are those of
    [`best_of_n_curve`].

    Example:
    ```python
    >>> pass_at_k(np.array([[1, 0]]))[1].value
    0.5
    ```
    """
    from scipy.special import comb

    correct = np.asarray(correct, dtype=float)
    count, right = correct.shape[1], correct.sum(1)
    return {
        k: mean_with_interval(1 - comb(count - right, k) / comb(count, k), **interval_kwargs) for k in _ks(correct, ks)
    }


def majority_curve(
    answers: Sequence[Sequence[Hashable | None]],
    correct: np.ndarray,
    ks: Sequence[int] | None = None,
    weights: np.ndarray | None = None,
    num_subsets: int = 20,
    seed: int = 0,
    **interval_kwargs,
) -> dict[int, Estimate]:
    """
    Return the accuracy of the (weighted) majority answer among k candidates.

    The accuracy is exact over all subsets if there are at most `num_subsets` of them. Otherwise it is estimated from
    that many random subsets.

    Args:
        answers (`list` of `list`): Answer of each candidate per prompt; `None` is not counted.
        correct (`np.ndarray` of shape `(prompts, candidates)`): 1 for correct candidates.
        ks, **interval_kwargs: As for [`best_of_n_curve`].
        weights (`np.ndarray` of shape `(prompts, candidates)`, *optional*): Weights of the votes.
        num_subsets, seed (`int`, *optional*): Number of random subsets, and random seed.

    Returns:
        `dict` from k to [`Estimate`]. A prompt without any answer counts as wrong.
    """
    correct = np.asarray(correct, dtype=float)
    rng = np.random.default_rng(seed)
    curve = {}
    for k in _ks(correct, ks):
        values = np.zeros(len(correct))
        for prompt, own in enumerate(answers):
            subsets = list(_subsets(correct.shape[1], k, num_subsets, rng))
            for members in subsets:
                chosen = [own[member] for member in members]
                winner, _ = majority_vote(chosen, None if weights is None else weights[prompt][members])
                values[prompt] += 0.0 if winner is None else correct[prompt, members[winner]] / len(subsets)
        curve[k] = mean_with_interval(values, **interval_kwargs)
    return curve


def _subsets(count: int, k: int, limit: int, rng: np.random.Generator) -> Iterator[list[int]]:
    if math.comb(count, k) <= limit:
        yield from (list(members) for members in itertools.combinations(range(count), k))
        return
    for _ in range(limit):
        yield sorted(rng.permutation(count)[:k].tolist())


def chances_by_rank(count: int, k: int) -> np.ndarray:
    r"""
    Return the probability that the candidate of each rank is the best of k.

    $$ \binom{N-1-j}{k-1} / \binom{N}{k} $$

    Example:
    ```python
    >>> chances_by_rank(3, 2)
    array([0.66666667, 0.33333333, 0.        ])
    ```
    """
    return np.array([math.comb(count - 1 - rank, k - 1) / math.comb(count, k) for rank in range(count)])


def _ks(values: np.ndarray, ks: Sequence[int] | None) -> Sequence[int]:
    count = values.shape[1]
    ks = range(1, count + 1) if ks is None else ks
    if not all(1 <= k <= count for k in ks):
        raise ValueError(
            f"`ks` must be numbers from 1 to the {count} candidates of a prompt, got {list(ks)}. Change them."
        )
    return ks
