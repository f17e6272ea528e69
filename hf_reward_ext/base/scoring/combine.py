"""Combinations of two rewards for the same candidates."""

from typing import Self

import numpy as np

Scores = np.ndarray


def max_rank(rewards: Scores, other_rewards: Scores) -> Scores:
    """
    Return the negative of the worse of a candidate's two ranks. "Ranking" of the ELHSR code.

    Rank 0 is best; equal rewards rank in order.

    Args:
        rewards, other_rewards (`np.ndarray` of shape `(..., candidates)`): Rewards, ranked within the last axis.

    Returns:
        `np.ndarray` of the same shape; larger is better.

    Example:
    ```python
    >>> max_rank(np.array([3.0, 2.0, 1.0]), np.array([1.0, 3.0, 2.0]))
    array([-2., -1., -2.])
    ```
    """
    rewards, other_rewards = _same_shape(rewards, other_rewards)
    orders = [np.argsort(-values, axis=-1, kind="stable") for values in (rewards, other_rewards)]
    ranks = [np.argsort(order, axis=-1) for order in orders]
    return -np.maximum(*ranks).astype(float)


def min_max(rewards: Scores, other_rewards: Scores) -> Scores:
    """
    Return the mean of both rewards after each is scaled to [0, 1] within its group; a constant group counts 1.

    "Scaling" of the ELHSR code, with the arguments of [`max_rank`].

    Example:
    ```python
    >>> min_max(np.array([0.0, 10.0]), np.array([5.0, 5.0]))
    array([0.5, 1. ])
    ```
    """
    rewards, other_rewards = _same_shape(rewards, other_rewards)
    return (_scaled(rewards) + _scaled(other_rewards)) / 2


class FittedCombination:
    """
    Logistic regression from two rewards to correctness; its log-odds are the combined reward.

    Example:
    ```python
    >>> combine = FittedCombination().fit(rewards, other_rewards, labels)
    >>> pipe(prompt, combine=combine)
    ```
    """

    def __init__(self, weights: tuple[float, float] | None = None, intercept: float = 0.0):
        self.weights = weights
        self.intercept = intercept

    def fit(self, rewards: Scores, other_rewards: Scores, labels: Scores) -> Self:
        """
        Fit on held-out candidates.

        Args:
            rewards, other_rewards (`np.ndarray` of shape `(..., candidates)`): Rewards.
            labels (`np.ndarray` of the same shape): 1 for correct.

        Raises:
            ValueError: If all labels agree or shapes differ.
        """
        from sklearn.linear_model import LogisticRegression  # takes a second to import

        rewards, other_rewards = _same_shape(rewards, other_rewards)
        labels = np.asarray(labels)
        if labels.min() == labels.max():
            raise ValueError(
                f"All {labels.size} labels are {labels.flat[0]}, but a combination is fitted on correct and wrong "
                "candidates. Give more candidates."
            )
        inputs = np.stack([rewards.ravel(), other_rewards.ravel()], axis=-1)
        mean, scale = inputs.mean(0), inputs.std(0) + 1e-12
        fit = LogisticRegression().fit((inputs - mean) / scale, labels.ravel() > 0.5)
        weights = fit.coef_[0] / scale
        self.weights = (float(weights[0]), float(weights[1]))
        self.intercept = float(fit.intercept_[0] - weights @ mean)
        return self

    def __call__(self, rewards: Scores, other_rewards: Scores) -> Scores:
        """
        Return the combined rewards.

        Raises:
            RuntimeError: If `fit` was not called before.
        """
        if self.weights is None:
            raise RuntimeError("The combination has no weights yet. Call `fit` on held-out candidates first.")
        rewards, other_rewards = _same_shape(rewards, other_rewards)
        return self.weights[0] * rewards + self.weights[1] * other_rewards + self.intercept

    def to_dict(self) -> dict:
        """Return the arguments of [`FittedCombination`] that restore it, as JSON values."""
        return {"weights": self.weights, "intercept": self.intercept}


def _same_shape(rewards: Scores, other_rewards: Scores) -> tuple[np.ndarray, np.ndarray]:
    rewards, other_rewards = np.asarray(rewards, dtype=float), np.asarray(other_rewards, dtype=float)
    if rewards.shape != other_rewards.shape or rewards.size == 0:
        raise ValueError(
            f"`rewards` and `other_rewards` must have one shape, got {rewards.shape} and {other_rewards.shape}. "
            "Pass two rewards for each candidate."
        )
    if np.isnan(rewards).any() or np.isnan(other_rewards).any():
        raise ValueError("A reward is NaN, so candidates cannot be compared. Leave out candidates without a reward.")
    return rewards, other_rewards


def _scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    return np.where(high > low, (values - low) / np.where(high > low, high - low, 1.0), 1.0)
