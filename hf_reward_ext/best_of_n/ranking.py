"""Ranking of scored candidates by reward, or by votes of their answers."""

from collections.abc import Callable, Sequence

import numpy as np

from hf_reward_ext.base.scoring.votes import check_answer, majority_vote
from hf_reward_ext.best_of_n.options import BestOfNOptions


def best_first(records: list[dict], completions: Sequence[str], options: BestOfNOptions) -> list[dict]:
    """Return the candidates of a prompt as the options ask: best first or by votes, all of them or the first."""
    if options.vote is None:
        ranked = rank_candidates(records)
    else:
        ranked = rank_by_vote(records, completions, options.vote, options.extract_answer)  # pyright: ignore[reportArgumentType]
    return ranked if options.return_all else ranked[:1]


def rank_candidates(records: list[dict]) -> list[dict]:
    """Sort candidates best first; pruned ones follow finished ones, and those without a score are last."""
    return sorted(records, key=_rank)


def rank_by_vote(
    records: list[dict], completions: Sequence[str], vote: str, extract_answer: Callable[[str], object]
) -> list[dict]:
    """
    Sort candidates with the winning answer first.

    Args:
        records (`list` of `dict`): Records with `score` and `pruned`, to which `answer` is added.
        completions (`list[str]`): Texts of the candidates. Pruned candidates have no vote.
        vote (`str`): Kind of vote, `"majority"`, or `"weighted"` by the exponential of the score (0 without a score).
        extract_answer (`callable`): Function from a text to a hashable answer or `None`.

    Raises:
        TypeError, ValueError: If an answer is not hashable, or not equal to itself.
    """
    for record, completion in zip(records, completions, strict=True):
        record["answer"] = None if record["pruned"] else check_answer(extract_answer(completion))
    answers = [record["answer"] for record in records]
    weights = _weights([record["score"] for record in records], answers) if vote == "weighted" else None
    winner, _ = majority_vote(answers, weights)
    best = None if winner is None else answers[winner]
    return sorted(records, key=lambda record: (record["answer"] != best, *_rank(record)))


def _rank(record: dict) -> tuple[bool, bool, float]:
    score = record["score"]
    return score is None, record["pruned"], 0.0 if score is None else -score


def _weights(scores: Sequence[float | None], answers: Sequence[object]) -> list[float]:
    # Only those that vote set the scale: next to a far better score of others they would all round to 0.
    values = np.array(
        [-np.inf if score is None or answer is None else score for score, answer in zip(scores, answers, strict=True)]
    )
    if np.isneginf(values).all():
        return [0.0] * len(values)
    weights = np.exp(values - values.max())
    return (weights / weights.sum()).tolist()
