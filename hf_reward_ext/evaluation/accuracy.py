"""Accuracies of subsets with intervals."""

from collections.abc import Sequence

import numpy as np

from hf_reward_ext.base.stats.intervals import Estimate, share_with_interval
from hf_reward_ext.evaluation.scoring import ScoredRow


def share_of(right: Sequence[float], **interval_kwargs) -> Estimate:
    """Return the mean of values between 0 and 1, with its interval."""
    return share_with_interval(np.array(right, dtype=float), **interval_kwargs)


def by_subset(scored: Sequence[ScoredRow], values: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the values of the rows of each subset, in the order in which subsets first appear."""
    groups: dict[str, list[float]] = {}
    for one, value in zip(scored, values, strict=True):
        groups.setdefault(one.row.subset, []).append(value)
    return {name: np.array(group, dtype=float) for name, group in groups.items()}


def subset_shares(scored: Sequence[ScoredRow], right: Sequence[float], **interval_kwargs) -> dict[str, Estimate]:
    """Return the accuracy of each named subset."""
    return {
        name: share_of(group.tolist(), **interval_kwargs) for name, group in by_subset(scored, right).items() if name
    }


def agreement(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    """Return `{"agreement": ...}`, the share of pairs with the same verdict in both orders; empty for rewards."""
    if any(len(one.margins) < 2 for one in scored):
        return {}
    same = [float((np.sign(one.margins[0]) == np.sign(one.margins[1])).mean()) for one in scored]
    return {"agreement": share_of(same, **interval_kwargs)}
