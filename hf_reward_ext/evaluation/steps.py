"""Evaluation of rewards of steps: which steps of a solution are wrong."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hf_reward_ext.base.options import check_choice, check_count, check_number
from hf_reward_ext.base.scoring.scorer import Scorer, as_single_scorer
from hf_reward_ext.base.stats.intervals import Estimate, check_interval
from hf_reward_ext.evaluation.benchmarks.rows import read_rows
from hf_reward_ext.evaluation.benchmarks.step_rows import STEP_BENCHMARKS, StepBenchmark, StepRow
from hf_reward_ext.evaluation.results import BenchmarkEvaluation


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

    def _settings(self) -> str:
        return f", threshold {self.threshold:g}"


def evaluate_steps(
    scorer,
    dataset: Iterable[dict],
    format: str = "processbench",
    *,
    threshold: float,
    separator: str = "\n\n",
    tokenizer=None,
    batch_size: int = 16,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> StepEvaluation:
    r"""
    Measure whether the rewards of prefixes find the wrong steps of solutions, by the published rules.

    A step is accepted if the reward of the solution up to it is at least `threshold`.

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
        batch_size (`int`, *optional*, defaults to 16): Number of prefixes per forward.
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
    check_choice("format", format, tuple(STEP_BENCHMARKS))
    benchmark = STEP_BENCHMARKS[format]
    rows = read_rows(dataset, benchmark.columns, benchmark.read, benchmark.what)
    resolved = as_single_scorer(scorer, tokenizer, batch_size)
    rewards = [_prefix_rewards(row, resolved, separator) for row in rows]
    groups: dict[str, list[list[float]]] = {}
    for row, own in zip(rows, rewards, strict=True):
        if own is not None:
            accepted = [reward >= threshold for reward in own]
            groups.setdefault(row.subset, []).append(benchmark.counts(row, accepted))
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
        rows=[{"id": row.name, "subset": row.subset, "rewards": own} for row, own in zip(rows, rewards, strict=True)],
        num_unanswered=sum(own is None for own in rewards),
    )


def _prefix_rewards(row: StepRow, scorer: Scorer, separator: str) -> list[float] | None:
    """Return the reward of the solution up to each step; `None` if one has none."""
    prefixes = [separator.join(row.steps[: number + 1]) for number in range(len(row.steps))]
    prompt = [{"role": "user", "content": row.prompt}] if scorer.reads_messages else row.prompt
    rewards = scorer([prompt] * len(prefixes), prefixes)
    known = [reward for reward in rewards if reward is not None]
    return known if len(known) == len(rewards) else None


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
    for subset, values in of_subsets.items():
        named |= {f"{key}/{subset}": value for key, value in values.items()}
    edges = [(1 - confidence) / 2, (1 + confidence) / 2]
    return {
        key: Estimate(float(values[0]), *map(float, np.quantile(values[1:], edges))) for key, values in named.items()
    }


def _resampled_sums(counts: np.ndarray, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the sum of the counts of all rows, and of each resample of the rows."""
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=num_resamples)
    return np.concatenate([counts.sum(0, keepdims=True), drawn @ counts])
