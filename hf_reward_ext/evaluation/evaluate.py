"""Pair accuracy of any reward model on common benchmarks."""

from collections.abc import Iterable, Sequence
from itertools import compress
from types import ModuleType
from typing import Any

import numpy as np

from hf_reward_ext.base.options import check_count
from hf_reward_ext.base.plugins import find_plugin, plugin_names
from hf_reward_ext.base.scoring.scorer import Scorer, as_scorer
from hf_reward_ext.base.stats.intervals import check_interval
from hf_reward_ext.evaluation.accuracy import agreement
from hf_reward_ext.evaluation.benchmarks import judge_bench, llmbar, preference, reward_bench, rm_bench
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow, read_rows
from hf_reward_ext.evaluation.results import PreferenceEvaluation
from hf_reward_ext.evaluation.scoring import ScoredRow, score_rows

_FORMATS: dict[str, ModuleType] = {
    "preference": preference,
    "rewardbench": reward_bench,
    "rm-bench": rm_bench,
    "judgebench": judge_bench,
    "llmbar": llmbar,
}


def evaluate_preferences(
    scorer,
    dataset: Iterable[dict],
    format: str = "preference",
    *,
    tokenizer=None,
    conversational: bool | None = None,
    batch_size: int = 16,
    show_progress: bool | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> PreferenceEvaluation:
    """
    Measure how often a reward model or judge prefers the better response.

    | `format` | columns | rule |
    |---|---|---|
    | `"preference"` | `prompt`, `chosen`, `rejected` in any of TRL's formats, optionally `subset` | higher score wins |
    | `"rewardbench"` | those of `allenai/reward-bench`, or of `allenai/reward-bench-2` | sections; best of four, ties |
    | `"rm-bench"` | those of `THU-KEG/RM-Bench` | nine comparisons: easy, normal, hard |
    | `"judgebench"` | those of `ScalerLab/JudgeBench` | both orders; inconsistent is wrong |
    | `"llmbar"` | those of LLMBar, optionally `subset` | mean of both orders |

    Equal scores count as wrong, except a shared first place in RewardBench 2. Pairwise judges are given every pair in
    both orders. If a benchmark has no rule for that, the mean of both orders decides (for a [`FastSlowRewardModel`]
    with `both_orders`, its own mean).

    A row with a response without a reward (`None`) is ignored in all accuracies and counted in `num_unanswered`.

    Args:
        scorer: Anything that [`as_scorer`] takes: a reward model of this library or of TRL (with its `tokenizer`), a
            judge, the name of either, a weighted set, a reward function, or a [`PairScorer`].
        dataset (`Dataset`, `IterableDataset` or `list` of `dict`): Rows to evaluate.
        format (`str`, *optional*, defaults to `"preference"`): Benchmark that determines columns and rule: one of
            the table, or one that an installed package declares.
        tokenizer (*optional*): Tokenizer of a model that is passed as an object.
        conversational (`bool`, *optional*): Whether to convert text prompts of benchmarks to a user message. Default:
            for models whose tokenizer has a chat template. Preference rows are not converted.
        batch_size (`int`, *optional*, defaults to 16): Number of responses per call of the scorer.
        show_progress (`bool`, *optional*): Whether to show a progress bar. Default: for five batches or more.
        confidence, num_resamples, seed: Settings of the bootstrap intervals, see [`mean_with_interval`].

    Returns:
        [`PreferenceEvaluation`]: a `dict` from names (`"accuracy"` first) to [`Estimate`] with conversions to a
        dataset, Markdown, a plot and model-card metadata.

    Raises:
        TypeError: If the scorer cannot score text.
        ValueError: If columns are missing, a value is invalid, or the scorer returns NaN (the message names the row),
            or if no row has rewards.

    Example:
    ```python
    >>> rows = [{"prompt": "2+2?", "chosen": "4", "rejected": "five"}]
    >>> evaluate_preferences(lambda prompts, responses: [-len(text) for text in responses], rows)["accuracy"].value
    1.0
    ```
    """
    check_interval(confidence, num_resamples)
    check_count("batch_size", batch_size)
    rows = read_benchmark(dataset, format)
    benchmark = _benchmark(format)
    resolved = as_scorer(scorer, tokenizer, batch_size)
    if conversational is None:
        conversational = format != "preference" and isinstance(resolved, Scorer) and resolved.reads_messages
    if conversational:
        rows = [_as_messages(row) for row in rows]
    scored = score_rows(rows, resolved, batch_size, show_progress)
    is_answered = _answered(scored, resolved.__name__)
    answered = list(compress(scored, is_answered))
    interval = dict(confidence=confidence, num_resamples=num_resamples, seed=seed)
    estimates = {**benchmark.summarize(answered, **interval), **agreement(answered, **interval)}
    correct = iter(benchmark.correct(answered))
    return PreferenceEvaluation(
        estimates,
        format=format,
        scorer=resolved.__name__,
        confidence=confidence,
        rows=[_record(row, next(correct) if counts else None) for row, counts in zip(scored, is_answered, strict=True)],
        num_unanswered=is_answered.count(False),
    )


def read_benchmark(dataset: Iterable[dict], format: str) -> list[PreferenceRow]:
    """
    Read all rows of a benchmark.

    Args:
        dataset (`Dataset`, `IterableDataset` or `list` of `dict`): Rows to read.
        format (`str`): Name of the benchmark, see [`evaluate_preferences`].

    Raises:
        ValueError: If `format` is unknown, or a row is invalid; the message names the row.
    """
    benchmark = _benchmark(format)
    return read_rows(dataset, benchmark.COLUMNS, benchmark.read, benchmark.WHAT)


def _benchmark(format: str) -> Any:
    if format in _FORMATS:
        return _FORMATS[format]
    plugin = find_plugin("benchmarks", format)
    if plugin is None:
        names = sorted([*_FORMATS, *plugin_names("benchmarks")])
        raise ValueError(f"`format` must be one of {names}, got {format!r}. Choose one.")
    benchmark = plugin.load()
    lacking = [name for name in ("COLUMNS", "WHAT", "read", "summarize", "correct") if not hasattr(benchmark, name)]
    if lacking:
        raise TypeError(f"The benchmark {format!r} must have the names of `docs/extending.md`, but it lacks {lacking}.")
    return benchmark


def _answered(scored: Sequence[ScoredRow], scorer: str) -> list[bool]:
    """Return the rows with rewards of all responses in the row and its group."""
    incomplete = {row.row.group for row in scored if not row.is_answered} - {""}
    is_answered = [row.is_answered and row.row.group not in incomplete for row in scored]
    if not any(is_answered):
        raise ValueError(
            f"`{scorer}` must answer at least one row, got `None` for a response of each of the {len(scored)} rows. "
            "Pass rows that it applies to."
        )
    return is_answered


def _as_messages(row: PreferenceRow) -> PreferenceRow:
    if not isinstance(row.prompt, str):
        return row
    return row._replace(prompt=[{"role": "user", "content": row.prompt}])


def _record(one: ScoredRow, correct: float | None) -> dict:
    """Return one line of the dataset of rows."""
    chosen = len(one.row.chosen)
    return {
        "id": one.row.name,
        "subset": one.row.subset,
        "correct": correct,
        "margins": _numbers(one.decisions.ravel()),
        "chosen_scores": None if one.scores is None else _numbers(one.scores[:chosen]),
        "rejected_scores": None if one.scores is None else _numbers(one.scores[chosen:]),
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
