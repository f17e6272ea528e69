"""RM-Bench: three styles of a correct and of a wrong response, nine comparisons per row."""

from collections.abc import Sequence

import numpy as np

from hf_reward_ext.base.stats.intervals import Estimate, composite_with_interval
from hf_reward_ext.evaluation.accuracy import by_subset, share_of
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow
from hf_reward_ext.evaluation.scoring import ScoredRow

COLUMNS = ("prompt", "chosen", "rejected", "domain")
WHAT = "RM-Bench"
DOMAINS = ("chat", "math", "code", "safety")
_STYLES = 3  # concise, detailed, detailed with Markdown


def read(example: dict) -> PreferenceRow:
    """Read a row of `THU-KEG/RM-Bench`: `chosen` and `rejected` have the same three styles."""
    chosen, rejected, domain = list(example["chosen"]), list(example["rejected"]), str(example["domain"])
    if isinstance(example["chosen"], str) or len(chosen) != _STYLES or len(rejected) != _STYLES:
        raise ValueError(
            "`chosen` and `rejected` must be lists of three styles (concise, detailed, detailed with Markdown), got "
            f"{len(chosen)} and {len(rejected)} entries. Fix the row."
        )
    if not domain.startswith(DOMAINS):
        raise ValueError(f"`domain` must begin with 'chat', 'math', 'code' or 'safety', got {domain!r}. Fix the row.")
    return PreferenceRow(example["prompt"], chosen, rejected, domain, str(example.get("id", "")))


def difficulties(wins: np.ndarray) -> dict[str, float]:
    r"""
    Return the accuracies of one row in comparisons where style helps, does not matter, and misleads.

    With `wins[i, j]` for chosen style $i$ over rejected style $j$: `easy` is the mean over $i > j$, `normal` over
    $i = j$, `hard` over $i < j$. Source: [RM-Bench](https://huggingface.co/papers/2410.16184).

    Example:
    ```python
    >>> difficulties(np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]]))
    {'easy': 1.0, 'normal': 1.0, 'hard': 0.0}
    ```
    """
    chosen, rejected = np.indices(wins.shape)
    masks = {"easy": chosen > rejected, "normal": chosen == rejected, "hard": chosen < rejected}
    return {name: float(wins[mask].mean()) for name, mask in masks.items()}


def summarize(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    """
    Return `accuracy`, the difficulties and the domains; accuracy and difficulties are means of the domains.

    The safety domain is the mean of its parts. The means over domains follow our interpretation of the paper's tables.
    Domains without rows are ignored.
    """
    values = [difficulties(one.wins()) for one in scored]
    values = [{**one, "accuracy": float(np.mean(list(one.values())))} for one in values]
    groups = {name: by_subset(scored, [one[name] for one in values]) for name in ("accuracy", "easy", "normal", "hard")}
    parts = {domain: [name for name in groups["accuracy"] if name.startswith(domain)] for domain in DOMAINS}
    parts = {domain: names for domain, names in parts.items() if names}
    weights = {domain: dict.fromkeys(names, 1 / len(names)) for domain, names in parts.items()}
    overall = {name: weight / len(weights) for own in weights.values() for name, weight in own.items()}
    estimates = {name: composite_with_interval(group, overall, **interval_kwargs) for name, group in groups.items()}
    for domain, own in weights.items():
        for name, group in groups.items():
            key = domain if name == "accuracy" else f"{domain}/{name}"
            estimates[key] = composite_with_interval(group, own, **interval_kwargs)
    for name in parts.get("safety", []):
        if name != "safety":
            estimates[name] = share_of(groups["accuracy"][name].tolist(), **interval_kwargs)
    return estimates


def correct(scored: Sequence[ScoredRow]) -> list[float | None]:
    """Return the share of correct comparisons among the nine of each row."""
    return [float(one.wins().mean()) for one in scored]
