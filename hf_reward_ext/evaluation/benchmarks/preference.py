"""Plain preference pairs: rows in any of TRL's formats."""

from collections.abc import Sequence

from hf_reward_ext.base.preference.rows import read_pair
from hf_reward_ext.base.stats.intervals import Estimate
from hf_reward_ext.evaluation.accuracy import share_of, subset_shares
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow
from hf_reward_ext.evaluation.scoring import ScoredRow

COLUMNS = ("chosen", "rejected")
WHAT = "preference"


def read(example: dict) -> PreferenceRow:
    """Read a row `{prompt, chosen, rejected}` or `{chosen, rejected}`, with optional `subset` and `id`."""
    if isinstance(example["chosen"], list) and not all(isinstance(one, dict) for one in example["chosen"]):
        raise ValueError(
            "`chosen` is a `list` of other things than messages, but a pair has one text or one list of messages on "
            "each side. Pass the `format` of these rows, for example 'rewardbench' or 'rm-bench'."
        )
    pair = read_pair(example)
    subset, name = example.get("subset"), example.get("id")
    return PreferenceRow(
        pair.prompt,
        [pair.chosen],
        [pair.rejected],
        "" if subset is None else str(subset),
        "" if name is None else str(name),
    )


def summarize(scored: Sequence[ScoredRow], **interval_kwargs) -> dict[str, Estimate]:
    """Return `accuracy`, and the accuracy of each subset if rows have one."""
    values = [float(one.wins()[0, 0]) for one in scored]
    return {"accuracy": share_of(values, **interval_kwargs), **subset_shares(scored, values, **interval_kwargs)}


def correct(scored: Sequence[ScoredRow]) -> list[float | None]:
    """Return 1 per row if the chosen response has the higher score."""
    return [float(one.wins()[0, 0]) for one in scored]
