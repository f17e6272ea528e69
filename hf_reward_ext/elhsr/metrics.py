"""Metrics of how well rewards distinguish correct from wrong candidates."""

from collections.abc import Sequence

import numpy as np


def group_metrics(rewards: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> dict[str, float]:
    """
    Return the accuracy, area under the ROC curve, and best-of-N on groups of candidates.

    Args:
        rewards, labels: Rewards and labels (0 or 1), one array per prompt.

    Returns:
        `dict` with `accuracy` (sign of the reward against the label), `auc` (missing if all are right or all are wrong)
        and, over the prompts with several candidates, `best_of_n` (share whose highest reward is correct) and
        `pass_at_1` (mean label).

    Example:
    ```python
    >>> group_metrics([np.array([1.0, -1.0])], [np.array([1.0, 0.0])])
    {'accuracy': 1.0, 'auc': 1.0, 'best_of_n': 1.0, 'pass_at_1': 0.5}
    ```
    """
    flat_rewards, flat_labels = np.concatenate(rewards), np.concatenate(labels)
    metrics = {"accuracy": float(((flat_rewards > 0) == (flat_labels > 0.5)).mean())}
    if 0 < (flat_labels > 0.5).mean() < 1:
        from sklearn.metrics import roc_auc_score  # importing it takes a second

        metrics["auc"] = float(roc_auc_score(flat_labels > 0.5, flat_rewards))
    several = [index for index, group in enumerate(labels) if len(group) > 1]
    if several:
        metrics["best_of_n"] = float(np.mean([labels[index][rewards[index].argmax()] for index in several]))
        metrics["pass_at_1"] = float(np.mean([labels[index].mean() for index in several]))
    return metrics


def fit_calibration(rewards: np.ndarray, labels: np.ndarray) -> list[float] | None:
    """Fit slope and intercept of the map from reward to probability; `None` if all are right or all are wrong."""
    if not 0 < (labels > 0.5).mean() < 1:
        return None
    from sklearn.linear_model import LogisticRegression  # importing it takes a second

    fit = LogisticRegression(C=1e6).fit(rewards[:, None], labels > 0.5)
    return [float(fit.coef_[0, 0]), float(fit.intercept_[0])]
