"""RewardBench, version 1 (pairs in four sections) and version 2 (best of four, and ties)."""

from collections.abc import Sequence

import numpy as np

from hf_reward_ext.base.stats.intervals import Estimate, composite_with_interval
from hf_reward_ext.evaluation.accuracy import by_subset, share_of, subset_shares
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow
from hf_reward_ext.evaluation.benchmarks.ties import TIES, ties_estimates, ties_per_prompt
from hf_reward_ext.evaluation.scoring import ScoredRow

COLUMNS = ("prompt", "chosen", "rejected", "subset")
WHAT = "RewardBench"

# Weights of the subsets of version 1 in their section: numbers of prompts; math counts as much as all code subsets.
SECTIONS = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 250,
        "xstest-should-respond": 154,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
DOMAINS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", TIES)


def read(example: dict) -> PreferenceRow:
    """Read a row of `allenai/reward-bench` (strings) or of `allenai/reward-bench-2` (lists of strings)."""
    subset, name = str(example["subset"]), str(example.get("id", ""))
    if isinstance(example["chosen"], str):
        if not any(subset in subsets for subsets in SECTIONS.values()):
            raise ValueError(
                f"`subset={subset!r}` is none of RewardBench's, so its section is unknown. Pass the rows with "
                "`format='preference'` for accuracies of other subsets."
            )
        return PreferenceRow(example["prompt"], [example["chosen"]], [example["rejected"]], subset, name)
    if subset not in DOMAINS:
        raise ValueError(f"`subset` must be one of {list(DOMAINS)} of RewardBench 2, got {subset!r}. Fix the row.")
    chosen, rejected = list(example["chosen"]), list(example["rejected"])
    if not rejected or (len(chosen) != 1 and subset != TIES):
        raise ValueError(
            f"A row of {subset!r} must have one chosen and some rejected responses, got {len(chosen)} chosen and "
            f"{len(rejected)} rejected ones. Fix the row."
        )
    group = name.partition(":")[2] if subset == TIES else ""
    return PreferenceRow(example["prompt"], chosen, rejected, subset, name, group)


def summarize(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    """
    Return `accuracy`, the published score: the mean of the four sections, or of the domains of version 2.

    Sections and domains without rows are ignored.
    """
    if scored[0].row.subset in DOMAINS:
        return _version_2(scored, **interval_kwargs)
    groups = by_subset(scored, [float(one.wins()[0, 0]) for one in scored])
    weights = {section: _within(subsets, groups) for section, subsets in SECTIONS.items()}
    weights = {section: own for section, own in weights.items() if own}
    overall = {name: weight / len(weights) for own in weights.values() for name, weight in own.items()}
    return {
        "accuracy": composite_with_interval(groups, overall, **interval_kwargs),
        **{name: composite_with_interval(groups, own, **interval_kwargs) for name, own in weights.items()},
        **{name: share_of(group.tolist(), **interval_kwargs) for name, group in groups.items()},
    }


def correct(scored: Sequence[ScoredRow]) -> list[float | None]:
    """Return 1 per row if the chosen response wins, or its share of a tie in version 2; `None` for the ties subset."""
    if scored[0].row.subset not in DOMAINS:
        return [float(one.wins()[0, 0]) for one in scored]
    return [None if one.row.subset == TIES else _best_of_four(one) for one in scored]


def _version_2(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    ties = [one for one in scored if one.row.subset == TIES]
    others = [one for one in scored if one.row.subset != TIES]
    values = [_best_of_four(one) for one in others]
    groups, estimates = by_subset(others, values), subset_shares(others, values, **interval_kwargs)
    if ties:
        groups[TIES] = ties_per_prompt(ties)
        estimates.update(ties_estimates(ties, **interval_kwargs))
    mean = composite_with_interval(groups, dict.fromkeys(groups, 1 / len(groups)), **interval_kwargs)
    return {"accuracy": mean, **estimates}


def _best_of_four(one: ScoredRow) -> float:
    """Return 1 if the chosen response has the highest score, or 1/m if m responses share it, as published."""
    if one.scores is None:
        return float(one.wins()[0].all())
    best = one.scores == one.scores.max()
    return float(best[0] / best.sum())


def _within(subsets: dict[str, int], groups: dict[str, np.ndarray]) -> dict[str, float]:
    present = {name: count for name, count in subsets.items() if name in groups}
    return {name: count / sum(present.values()) for name, count in present.items()}
