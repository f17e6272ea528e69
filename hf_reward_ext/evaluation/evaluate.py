"""Pair accuracy of any reward model on the rows of the usual benchmarks."""

from collections.abc import Iterable, Sequence
from itertools import compress
from types import ModuleType
from typing import Literal

import numpy as np

from hf_reward_ext.base.scoring.scorer import Scorer, as_scorer
from hf_reward_ext.evaluation.accuracy import agreement
from hf_reward_ext.evaluation.benchmarks import judge_bench, llmbar, preference, reward_bench, rm_bench
from hf_reward_ext.evaluation.benchmarks.rows import PreferenceRow, read_rows
from hf_reward_ext.evaluation.results import PreferenceEvaluation
from hf_reward_ext.evaluation.scoring import ScoredRow, score_rows

Format = Literal["preference", "rewardbench", "rm-bench", "judgebench", "llmbar"]
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
    format: Format = "preference",
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
    How often a reward model or judge prefers the better response.

    | `format` | columns | rule |
    |---|---|---|
    | `"preference"` | `prompt`, `chosen`, `rejected` in any of TRL's formats, optionally `subset` | higher score wins |
    | `"rewardbench"` | those of `allenai/reward-bench`, or of `allenai/reward-bench-2` | sections; best of four, ties |
    | `"rm-bench"` | those of `THU-KEG/RM-Bench` | nine comparisons: easy, normal, hard |
    | `"judgebench"` | those of `ScalerLab/JudgeBench` | both orders; inconsistent is wrong |
    | `"llmbar"` | those of LLMBar, optionally `subset` | mean of both orders |

    Equal scores are wrong everywhere, but for the shared first place of RewardBench 2. Judges of pairs see every pair
    in both orders; where a benchmark has no rule for that, the mean of both orders decides (of a
    [`FastSlowRewardModel`] with `both_orders`, its own).

    A row for which the scorer has no answer to one of the responses (`None`) is left out of all accuracies and counted
    in `num_unanswered`.

    Args:
        scorer: Anything that [`as_scorer`] takes: a reward model of ours or of TRL (give its `tokenizer`), a judge,
            the name of either, a weighted set, a reward function, or a [`PairScorer`].
        dataset (`Dataset`, `IterableDataset` or `list` of `dict`): The rows.
        format (`str`, *optional*, defaults to `"preference"`): Benchmark whose columns and rule hold.
        tokenizer (*optional*): Tokenizer of a model given as an object.
        conversational (`bool`, *optional*): Turn the benchmarks' prompts (text) into a user's message. Default: for
            models whose tokenizer has a chat template. Preference rows stay as they are.
        batch_size (`int`, *optional*, defaults to 16): Responses per call of the scorer.
        show_progress (`bool`, *optional*): Default: a bar for five batches or more.
        confidence, num_resamples, seed: Settings of the bootstrap intervals, see [`mean_with_interval`].

    Returns:
        [`PreferenceEvaluation`]: a `dict` from names (`"accuracy"` first) to [`Estimate`] that also turns into a
        dataset, Markdown, a plot and model-card metadata.

    Raises:
        TypeError: If the scorer cannot score text.
        ValueError: If columns are missing, a value does not fit, or the scorer returns NaN; the message names the row.
            Also if the scorer answers no row.

    Example:
    ```python
    >>> rows = [{"prompt": "2+2?", "chosen": "4", "rejected": "five"}]
    >>> evaluate_preferences(lambda prompts, responses: [-len(one) for one in responses], rows)["accuracy"].value
    1.0
    ```
    """
    rows = read_benchmark(dataset, format)
    benchmark = _FORMATS[format]
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
    Rows of a benchmark, all of them read.

    Args:
        dataset (`Dataset`, `IterableDataset` or `list` of `dict`): The rows.
        format (`str`): Name of the benchmark, see [`evaluate_preferences`].

    Raises:
        ValueError: If there is no such format, or a row does not fit; the row is named.
    """
    if format not in _FORMATS:
        raise ValueError(f"`format={format!r}` was given, but it is one of {sorted(_FORMATS)}. Choose one.")
    benchmark = _FORMATS[format]
    return read_rows(dataset, benchmark.COLUMNS, benchmark.read, benchmark.WHAT)


def _answered(scored: Sequence[ScoredRow], scorer: str) -> list[bool]:
    """Rows that count: with an answer to all of their responses, and to those of their group."""
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
    """One line of the dataset of rows."""
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
