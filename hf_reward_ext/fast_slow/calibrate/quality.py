"""Quality of a judge, measured by its verdicts on pairs with known truth."""

from collections.abc import Sequence

import numpy as np

from hf_reward_ext.base.stats.intervals import share_with_interval
from hf_reward_ext.fast_slow.judge.judgment import Judgment, position_bias

LEAST_MASS = 0.1
MOST_DISAGREEMENT = 0.5
MOST_UNPARSED = 0.2
_CHANCE_P = 0.05


def judge_quality(
    fast: Sequence[Judgment], fast_right: np.ndarray, written: Sequence[Judgment] | None, both_orders: bool
) -> dict:
    """
    Return measures of a judge's quality, and a description of its problems.

    Args:
        fast (`list` of [`Judgment`]): Fast verdicts.
        fast_right (`np.ndarray`): 1 for correct verdicts; ties count half.
        written (`list` of [`Judgment`], *optional*): Written judgments on the same pairs.
        both_orders (`bool`): Whether each decision includes both orders of a pair.

    Returns:
        `dict` with `fast_accuracy_interval` (95 %), `position_bias` (with both orders), `unparsed` and `cut` (shares of
        written decisions with a row that has no verdict, and with a row that reached `max_new_tokens`), and `problems`,
        a list of sentences.
    """
    accuracy = share_with_interval(fast_right)
    found: dict = {"fast_accuracy_interval": [accuracy.lower, accuracy.upper]}
    problems = []
    from scipy.stats import binomtest  # importing it takes half a second

    p_value = binomtest(int(fast_right.sum()), len(fast_right), alternative="greater").pvalue
    if p_value > _CHANCE_P:
        problems.append(
            f"fast verdicts are right in {accuracy.value:.1%} [{accuracy.lower:.1%}, {accuracy.upper:.1%}] of "
            f"{len(fast)} pairs, which may be chance (p = {p_value:.2f}): give more pairs, or train the judge"
        )
    mass = float(np.mean([one.mass for one in fast]))
    if mass < LEAST_MASS:
        problems.append(
            f"the model puts {mass:.2g} of its probability on the verdicts: choose verdicts that it generates, or "
            "train it"
        )
    if both_orders:
        found["position_bias"] = bias = position_bias(fast)
        if bias["disagreement"] > MOST_DISAGREEMENT:
            problems.append(
                f"the two orders of a pair prefer different responses in {bias['disagreement']:.1%}, and "
                f"{bias['prefers_first']:.1%} of the verdicts prefer the response shown first: train the judge"
            )
    if written is not None:
        found["unparsed"] = float(np.mean([not one.parsed for one in written]))
        found["cut"] = float(np.mean([one.is_cut for one in written]))
        if found["unparsed"] > MOST_UNPARSED:
            problems.append(
                f"{found['unparsed']:.1%} of the written judgments have no verdict, {found['cut']:.1%} were cut at "
                "`max_new_tokens`: raise it, or train the judge"
            )
    found["problems"] = problems
    return found
