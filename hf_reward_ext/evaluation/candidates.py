"""Evaluation of ways to choose among N labeled candidates, for every k up to N, from one run."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import compress

import numpy as np

from hf_reward_ext.base.options import check_callable, check_count
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.base.scoring.votes import check_answer
from hf_reward_ext.base.stats.intervals import check_interval
from hf_reward_ext.evaluation.curves import best_of_n_curve, majority_curve, pass_at_k
from hf_reward_ext.evaluation.results import BestOfNEvaluation
from hf_reward_ext.evaluation.scoring import score_completions


def evaluate_best_of_n(
    scorer,
    dataset: Iterable[dict],
    *,
    extract_answer: Callable[[str], Hashable | None] | None = None,
    ks: Sequence[int] | None = None,
    tokenizer=None,
    batch_size: int = 16,
    show_progress: bool | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> BestOfNEvaluation:
    """
    Measure the accuracy of the best of k candidates by a reward, for every k, from one run with N candidates.

    The result also has the ceiling (`pass@k`) and votes. A candidate without a reward (`None`) ranks last, as in
    `pipeline("reward-bon")`, and has no weight in a weighted vote. A prompt without any reward is ignored and counted
    in `num_unanswered`.

    Args:
        scorer: Scorer of single responses, as for [`evaluate_preferences`].
        dataset (`Dataset` or `list` of `dict`): Rows `{prompt, completions, labels}` with the same number of
            candidates for every prompt, and labels 1 or 0.
        extract_answer (`callable`, *optional*): Function from a completion to a hashable answer or `None`. Adds the
            majority vote and the vote weighted by the exponential of the reward.
        ks (`list[int]`, *optional*): Values of k. Default: 1 to N.
        tokenizer, batch_size, show_progress, confidence, num_resamples, seed: As for [`evaluate_preferences`].

    Returns:
        [`BestOfNEvaluation`]: `dict` from the name of a curve to a `dict` from k to [`Estimate`].

    Raises:
        ValueError: If columns are missing, numbers of candidates differ, or no prompt has an answer.

    Example:
    ```python
    >>> rows = [{"prompt": "2+2=", "completions": ["4", "five"], "labels": [1, 0]}]
    >>> evaluate_best_of_n(lambda prompts, texts: [-len(text) for text in texts], rows)["best-of-n"][2].value
    1.0
    ```
    """
    check_interval(confidence, num_resamples)
    check_count("batch_size", batch_size)
    if extract_answer is not None:
        check_callable("extract_answer", extract_answer, ["completion"])
    prompts, completions, correct = read_candidate_rows(dataset)
    resolved = as_single_scorer(scorer, tokenizer, batch_size)
    rewards = np.stack(score_completions(prompts, completions, resolved, batch_size, show_progress))
    answered = np.array(~np.isnan(rewards).all(1))
    if not answered.any():
        raise ValueError(
            f"`{resolved.__name__}` must reward a candidate of at least one prompt, got `None` for all. Pass prompts "
            "that it applies to."
        )
    completions = list(compress(completions, answered.tolist()))
    rewards, correct = rewards[answered], correct[answered]
    ranks = np.where(np.isnan(rewards), -np.inf, rewards)
    settings: dict = dict(ks=ks, confidence=confidence, num_resamples=num_resamples, seed=seed)
    curves = {"best-of-n": best_of_n_curve(ranks, correct, **settings), "pass@k": pass_at_k(correct, **settings)}
    if extract_answer is not None:
        answers = [[check_answer(extract_answer(text)) for text in group] for group in completions]
        weights = np.exp(ranks - ranks.max(1, keepdims=True))
        curves["majority"] = majority_curve(answers, correct, **settings)
        curves["weighted"] = majority_curve(answers, correct, weights=weights, **settings)
    return BestOfNEvaluation(
        curves,
        scorer=resolved.__name__,
        rewards=rewards,
        correct=correct,
        confidence=confidence,
        num_unanswered=int((~answered).sum()),
    )


def read_candidate_rows(dataset: Iterable[dict]) -> tuple[list, list[list], np.ndarray]:
    """
    Read prompts, candidates and labels `(prompts, candidates)` from rows of [`evaluate_best_of_n`].
    """
    prompts, completions, labels = [], [], []
    for number, row in enumerate(dataset):
        missing = [column for column in ("prompt", "completions", "labels") if column not in row]
        if missing:
            raise ValueError(
                f"Row {number} has the columns {sorted(row)}, but candidates need 'prompt', 'completions' and "
                f"'labels': {', '.join(map(repr, missing))} missing. Rename the columns."
            )
        prompts.append(row["prompt"])
        completions.append(list(row["completions"]))
        labels.append(list(row["labels"]))
    counts = {len(group) for group in (*completions, *labels)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"All rows must have the same number of candidates and labels, got {sorted(counts)} candidates or labels "
            f"in {len(prompts)} rows. Keep the same number for all."
        )
    return prompts, completions, np.array(labels, dtype=float)
