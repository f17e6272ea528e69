"""A scorer whose rows are split over processes: the first one evaluates, the others score for it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.cli.processes import count_processes
from hf_reward_ext.cli.ranks import join_processes, share, work_in_rounds


def score_for_the_first(load: Callable[[], Scorer | PairScorer]) -> None:
    """
    Score rows for the first process until it has ended.

    Args:
        load (`callable`): Function that loads the scorer, called with the first rows.
    """
    join_processes()
    loaded = cache(load)
    while (rows := share(None)) is not None:
        with suppress(Exception):  # the first process has its message, and decides
            _score_together(loaded, *rows)


@contextmanager
def others_waiting() -> Iterator[None]:
    """Connect the first process with the others, and let them end afterwards."""
    if count_processes() < 2:
        yield
        return
    join_processes()
    try:
        yield
    finally:
        share(None)


def split_scorer(scorer: Scorer | PairScorer) -> Scorer | PairScorer:
    """
    Return a scorer for the first process, whose rows are scored by all of them.

    A judge of pairs is returned unchanged, since it may draw random numbers.
    """
    if count_processes() < 2 or isinstance(scorer, PairScorer):
        return scorer

    def score(prompts: Sequence, completions: Sequence) -> Rewards:
        rows = (list(prompts), list(completions))
        share(rows)
        return _score_together(lambda: scorer, *rows)

    return Scorer(
        score,
        name=scorer.__name__,
        models=scorer.models,
        reads_messages=scorer.reads_messages,
        joins_answers=scorer.joins_answers,
        check=scorer.check,
    )


def _score_together(load: Callable[[], Any], prompts: list, completions: list) -> Rewards:
    """Score a share of the rows in each process, and return all rewards."""
    count = count_processes()
    size = -(-len(prompts) // count)

    def score(number: int) -> list:
        mine = slice(number * size, (number + 1) * size)
        return load()(prompts[mine], completions[mine]) if prompts[mine] else []

    return [reward for _, part in work_in_rounds(range(count), score) for reward in part]
