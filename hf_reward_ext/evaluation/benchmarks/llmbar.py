"""LLMBar: instruction-following pairs, natural and adversarial."""

from collections.abc import Sequence

import numpy as np

from hf_reward_ext.base.stats.intervals import Estimate, composite_with_interval
from hf_reward_ext.evaluation.accuracy import by_subset, share_of
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow
from hf_reward_ext.evaluation.scoring import ScoredRow

COLUMNS = ("input", "output_1", "output_2", "label")
WHAT = "LLMBar"
_ADVERSARIAL = "Adversarial"


def read(example: dict) -> PreferenceRow:
    """Read a row of LLMBar: `label` is 1 or 2; `subset` (such as `"Adversarial/Neighbor"`) is optional."""
    if str(example["label"]) not in ("1", "2"):
        raise ValueError(f"`label` must be 1 or 2, got {example['label']!r}. Fix the row.")
    better, worse = example["output_1"], example["output_2"]
    if str(example["label"]) == "2":
        better, worse = worse, better
    subset = example.get("subset")
    return PreferenceRow(
        example["input"], [better], [worse], "" if subset is None else str(subset), str(example.get("id", ""))
    )


def summarize(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    """
    Return `accuracy` over all pairs (the mean of both orders for judges) and over each subset.

    `Adversarial` is the mean of its subsets.
    """
    groups = by_subset(scored, [_right(one) for one in scored])
    hard = [name for name in groups if name.startswith(_ADVERSARIAL)]
    estimates = {"accuracy": share_of(np.concatenate(list(groups.values())).tolist(), **interval_kwargs)}
    if hard:
        weights = dict.fromkeys(hard, 1 / len(hard))
        estimates[_ADVERSARIAL] = composite_with_interval(groups, weights, **interval_kwargs)
    for name, group in groups.items():
        if name:
            estimates[name] = share_of(group.tolist(), **interval_kwargs)
    return estimates


def correct(scored: Sequence[ScoredRow]) -> list[float | None]:
    """Return the share of orders in which the better output is preferred, per row."""
    return [_right(one) for one in scored]


def _right(one: ScoredRow) -> float:
    return float((one.margins[:, 0, 0] > 0).mean())
