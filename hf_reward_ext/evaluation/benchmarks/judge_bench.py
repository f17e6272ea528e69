"""JudgeBench: pairs with one objectively correct answer, judged in both orders."""

from collections.abc import Sequence

import numpy as np

from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.evaluation.accuracy import by_subset, share_of
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow
from hf_reward_ext.evaluation.scoring import ScoredRow

COLUMNS = ("question", "response_A", "response_B", "label", "source")
WHAT = "JudgeBench"
CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}


def read(example: dict) -> PreferenceRow:
    """Read a row of `ScalerLab/JudgeBench`: `label` is `"A>B"` or `"B>A"`, and `source` has the category."""
    if example["label"] not in ("A>B", "B>A"):
        raise ValueError(f"`label` must be 'A>B' or 'B>A', got {example['label']!r}. Fix the row.")
    better, worse = example["response_A"], example["response_B"]
    if example["label"] == "B>A":
        better, worse = worse, better
    source = str(example["source"])
    categories = [category for prefix, category in CATEGORIES.items() if source.startswith(prefix)]
    if not categories:
        raise ValueError(f"`source` must begin with one of {sorted(CATEGORIES)}, got {source!r}. Fix the row.")
    return PreferenceRow(example["question"], [better], [worse], categories[0], str(example.get("pair_id", "")))


def summarize(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    """Return `accuracy` over all pairs and over each category."""
    groups = by_subset(scored, [_right(one) for one in scored])
    return {
        "accuracy": share_of(np.concatenate(list(groups.values())).tolist(), **interval_kwargs),
        **{name: share_of(groups[name].tolist(), **interval_kwargs) for name in CATEGORIES.values() if name in groups},
    }


def correct(scored: Sequence[ScoredRow]) -> list[float | None]:
    """Return correctness per row by the published rule, see [`_right`]."""
    return [_right(one) for one in scored]


def _right(one: ScoredRow) -> float:
    """Return 1 if correct verdicts outnumber wrong ones over both orders, which excludes two ties."""
    return float(np.sign(one.margins[:, 0, 0]).sum() > 0)
