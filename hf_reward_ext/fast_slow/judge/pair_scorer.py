"""Scorer that compares two responses with a pairwise judge."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from hf_reward_ext.base.scoring.pair import PairScorer


class JudgePairScorer(PairScorer):
    """
    Scorer that compares two responses with a pairwise [`FastSlowRewardModel`].

    With `both_orders` one decision includes both orders and their mean. Otherwise the judge is called once for each
    order.

    Args:
        judge ([`FastSlowRewardModel`]): Pairwise judge.
    """

    def __init__(self, judge: Any):
        super().__init__(lambda *pairs: [judgment.score for judgment in judge.judge(*pairs, show_progress=False)])
        self.judge = judge
        self.__name__ = type(judge).__name__

    def compare(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> Float[np.ndarray, "pairs 3"]:
        """Return log-odds as [`PairScorer.compare`] does."""
        if not self.judge.config.both_orders:
            return super().compare(prompts, responses_a, responses_b)
        one_order = replace(self.judge.score_calibration, pairing="none")
        return np.array(
            [
                [
                    one_order.score(judgment.fast_scores[:1], judgment.vote_scores[:1]),
                    -one_order.score(judgment.fast_scores[1:], judgment.vote_scores[1:]),
                    judgment.score,
                ]
                for judgment in self.judge.judge(prompts, responses_a, responses_b, show_progress=False)
            ]
        )

    def check(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> None:
        """Raise the errors of the judge about its texts, in both orders."""
        self.judge.check(prompts, responses_a, responses_b)
        self.judge.check(prompts, responses_b, responses_a)
