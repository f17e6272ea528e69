"""Evaluation of rewards of steps: which steps of a solution are wrong."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Literal

import numpy as np

from hf_reward_ext.base.options import check_choice, check_count, check_number
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.base.stats.intervals import Estimate, check_interval
from hf_reward_ext.evaluation.benchmarks.rows import read_rows
from hf_reward_ext.evaluation.benchmarks.step_rows import STEP_BENCHMARKS, StepBenchmark, StepRow
from hf_reward_ext.evaluation.results import BenchmarkEvaluation
from hf_reward_ext.evaluation.scoring import score_completions

StepFormat = Literal["processbench", "prmbench"]


class StepEvaluation(BenchmarkEvaluation):
    """
    Values by name with intervals.

    Args:
        estimates (`dict` from `str` to [`Estimate`]): Values.
        format, scorer (`str`): Format of the rows, and name of the scorer.
        confidence, threshold (`float`): Confidence level, and smallest reward of an accepted step.
        rows (`list` of `dict`): `id`, `subset`, `rewards` of the steps (`None` without an answer) of each row.
        num_unanswered (`int`, *optional*, defaults to 0): Number of rows that were ignored, because a reward is
            missing.
    """

    def __init__(
        self,
        estimates: Mapping[str, Estimate],
        *,
        format: str,
        scorer: str,
        confidence: float,
        threshold: float,
        rows: Sequence[dict],
        num_unanswered: int = 0,
    ):
        super().__init__(
            estimates, format=format, scorer=scorer, confidence=confidence, rows=rows, num_unanswered=num_unanswered
        )
        self.threshold = threshold

    def to_dict(self) -> dict:
        return {**super().to_dict(), "threshold": self.threshold}

    def _settings(self) -> str:
        return f", threshold {self.threshold:g}"


def evaluate_steps(
    scorer,
    dataset: Iterable[dict],
    format: StepFormat = "processbench",
    *,
    threshold: float,
    separator: str = "\n\n",
    tokenizer=None,
    conversational: bool | None = None,
    batch_size: int = 16,
    show_progress: bool | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> StepEvaluation:
    r"""
    Measure whether the rewards of prefixes find the wrong steps of solutions, by the published rules.

    A step is accepted if the reward of the solution up to it is at least `threshold`. Every prefix is scored as a text
    of its own, so models of this library read EOS after it. To read the prefixes as `loss_type="step_bce"` trains them,
    without EOS and in one forward, use [`StepReward`].

    * `"processbench"` ([2412.06559](https://huggingface.co/papers/2412.06559)): the first rejected step must be the
      first wrong one, or none of a right solution. $F_1$ is the harmonic mean of the accuracies of wrong and of right
      solutions; `"f1"` is its mean over the subsets in the ids (`gsm8k-0`).
    * `"prmbench"` ([2501.03124](https://huggingface.co/papers/2501.03124)): every step counts, with right steps as the
      positive class. `"prm_score"` is the mean of $F_1$ and of the $F_1$ of wrong steps, over all steps of all rows.

    Args:
        scorer: Scorer of single responses, see [`as_scorer`].
        dataset (`Dataset` or `list` of `dict`): Rows of `Qwen/ProcessBench` (`id`, `problem`, `steps`, `label`) or
            `hitsmy/PRMBench_Preview` (`idx`, `modified_question`, `modified_process`, `error_steps`,
            `classification`).
        format (`str`, *optional*, defaults to `"processbench"`): Benchmark that determines columns and rule.
        threshold (`float`): Smallest reward of an accepted step: 0 for log-odds, 0.5 for probabilities, or one that was
            chosen on other rows.
        separator (`str`, *optional*, defaults to two line breaks): Text between steps.
        tokenizer (*optional*): Tokenizer of a model that is passed as an object.
        conversational (`bool`, *optional*): Whether to convert problems to a user message. Default: for models whose
            tokenizer has a chat template.
        batch_size (`int`, *optional*, defaults to 16): Number of prefixes per call of the scorer.
        show_progress (`bool`, *optional*): Whether to show a progress bar. Default: for five batches or more.
        confidence, num_resamples, seed: Settings of the bootstrap over rows within subsets.

    Returns:
        [`StepEvaluation`]: `dict` from names to [`Estimate`], over all rows and for each subset (`f1/gsm8k`).

    Raises:
        ValueError: If columns are missing, a value is invalid (the message names the row), or no row has rewards.

    Example:
    ```python
    >>> rows = [{"id": "sums-0", "problem": "2+2+2?", "steps": ["2+2=4", "4+2=7"], "label": 1}]
    >>> evaluate_steps(lambda prompts, texts: [-float("7" in text) for text in texts], rows, threshold=0)
    ```
    """
    check_interval(confidence, num_resamples)
    check_count("batch_size", batch_size)
    check_number("threshold", threshold)
    rows = read_step_rows(dataset, format)
    benchmark = STEP_BENCHMARKS[format]
    resolved = as_single_scorer(scorer, tokenizer, batch_size)
    if conversational is None:
        conversational = resolved.reads_messages
    prompts = [[{"role": "user", "content": row.prompt}] if conversational else row.prompt for row in rows]
    prefixes = [[separator.join(row.steps[:number]) for number in range(1, len(row.steps) + 1)] for row in rows]
    rewards = score_completions(prompts, prefixes, resolved, batch_size, show_progress)
    is_answered = [not np.isnan(own).any() for own in rewards]
    groups: dict[str, list[list[float]]] = {}
    for row, own in compress(zip(rows, rewards, strict=True), is_answered):
        groups.setdefault(row.subset, []).append(benchmark.counts(row, (own >= threshold).tolist()))
    if not groups:
        raise ValueError(
            f"`{resolved.__name__}` must answer all steps of at least one row, got `None` for one of each of "
            f"{len(rows)} rows. Pass rows that it applies to."
        )
    return StepEvaluation(
        _estimates(groups, benchmark, format == "processbench", confidence, num_resamples, seed),
        format=format,
        scorer=resolved.__name__,
        confidence=confidence,
        threshold=threshold,
        rows=[
            {"id": row.name, "subset": row.subset, "rewards": own.tolist() if answered else None}
            for row, own, answered in zip(rows, rewards, is_answered, strict=True)
        ],
        num_unanswered=is_answered.count(False),
    )


def read_step_rows(dataset: Iterable[dict], format: StepFormat) -> list[StepRow]:
    """
    Read all rows of a benchmark of steps.

    Args:
        dataset (`Dataset` or `list` of `dict`): Rows to read.
        format (`str`): Name of the benchmark, see [`evaluate_steps`].

    Raises:
        ValueError: If `format` is unknown, or a row is invalid; the message names the row.
    """
    check_choice("format", format, tuple(STEP_BENCHMARKS))
    benchmark = STEP_BENCHMARKS[format]
    return read_rows(dataset, benchmark.columns, benchmark.read, benchmark.what)


def _estimates(
    groups: Mapping[str, Sequence[Sequence[float]]],
    benchmark: StepBenchmark,
    is_mean_of_subsets: bool,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> dict[str, Estimate]:
    """Return the values over all rows and of each subset; row 0 of every array is the data, the others resamples."""
    rng = np.random.default_rng(seed)
    sums = {name: _resampled_sums(np.array(counts), num_resamples, rng) for name, counts in groups.items()}
    of_subsets = {name: benchmark.values(own) for name, own in sums.items()}
    if is_mean_of_subsets:
        names = next(iter(of_subsets.values()))
        overall = {key: np.mean([values[key] for values in of_subsets.values()], axis=0) for key in names}
    else:
        overall = benchmark.values(np.sum(list(sums.values()), axis=0))
    named = dict(overall)
    for subset, values in of_subsets.items() if set(of_subsets) != {""} else ():
        named |= {f"{key}/{subset}": value for key, value in values.items()}
    edges = [(1 - confidence) / 2, (1 + confidence) / 2]
    return {
        key: Estimate(float(values[0]), *map(float, np.quantile(values[1:], edges))) for key, values in named.items()
    }


def _resampled_sums(counts: np.ndarray, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the sum of the counts of all rows, and of each resample of the rows."""
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=num_resamples)
    return np.concatenate([counts.sum(0, keepdims=True), drawn @ counts])
