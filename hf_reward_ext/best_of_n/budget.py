"""Allocation of a fixed number of candidates over a set of prompts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.best_of_n.ranking import rank_candidates


def allocate_candidates(
    rewards: Sequence[Sequence[float]], budget: float, costs: Sequence[float] | None = None
) -> list[int]:
    r"""
    Return the numbers of further candidates per prompt that maximize the sum of best rewards.

    $$ E[\max(R_1, \dots, R_k, u^*)] - u^* = \int_{u^*}^\infty 1 - F(r)^k \, dr $$

    [AdaBoN](https://huggingface.co/papers/2505.12050): the rewards of a first round determine a distribution $F$ of
    each prompt by a Gaussian kernel estimate. Candidates are then allocated one by one to the prompt with the largest
    expected gain. Gains decrease with every candidate, so this allocation is optimal under $F$. Scott's rule for the
    bandwidth and the costs are our reconstruction.

    Args:
        rewards (`list[list[float]]`): Rewards of the first candidates of each prompt, at least two.
        budget (`float`): Total cost of further candidates.
        costs (`list[float]`, *optional*): Cost of one candidate of each prompt, for example its mean number of tokens.
            Default: 1, so that `budget` counts candidates.

    Returns:
        `list[int]`: Number of further candidates of each prompt.

    Raises:
        TypeError: If a reward, cost or the budget is not a number.
        ValueError: If a prompt has fewer than two rewards, a number is not finite, or a cost is not positive.

    Example:
    ```python
    >>> allocate_candidates([[1.0, 1.0, 1.0], [0.0, 4.0, 2.0]], budget=5)
    [0, 5]
    ```
    """
    check_number("budget", budget, least=0)
    if not len(rewards):
        raise ValueError("`rewards` must hold those of at least one prompt, got none. Draw some candidates first.")
    for index, values in enumerate(rewards):
        if len(values) < 2:
            raise ValueError(
                f"`rewards[{index}]` must hold at least two rewards, which show how much they vary, got {len(values)}. "
                "Draw more first."
            )
        for value in values:
            check_number(f"rewards[{index}]", value)
    costs = [1.0] * len(rewards) if costs is None else list(costs)
    if len(costs) != len(rewards):
        raise ValueError(f"`costs` must have one value for each of {len(rewards)} prompts, got {len(costs)}.")
    for cost in costs:
        check_number("costs", cost, above=0)
    gains = [
        _gains(np.asarray(values, dtype=float), int(budget / cost)) for values, cost in zip(rewards, costs, strict=True)
    ]
    counts, left = [0] * len(rewards), float(budget)
    while True:
        # Gain per cost; a prompt whose next candidate exceeds the remaining budget is excluded.
        best = max(
            (index for index, cost in enumerate(costs) if cost <= left and counts[index] < len(gains[index])),
            key=lambda index: gains[index][counts[index]] / costs[index],
            default=None,
        )
        if best is None or gains[best][counts[best]] <= 0:
            return counts
        counts[best] += 1
        left -= costs[best]


def best_within_budget(
    pipe: Any, prompts: Sequence, *, num_candidates: int, min_candidates: int = 4, seed: int = 0, **call_kwargs
) -> list[list[dict]]:
    """
    Run best-of-N on a set of prompts with a shared number of candidates.

    Every prompt gets a few candidates. The others are allocated by [`allocate_candidates`], among the prompts that have
    at least two rewards.

    Args:
        pipe ([`BestOfNPipeline`]): `pipeline("reward-bon", ...)` with one reward.
        prompts (`list` of `str` or of messages): Prompts.
        num_candidates (`int`): Mean number of candidates per prompt.
        min_candidates (`int`, *optional*, defaults to 4): Number of initial candidates per prompt, at
            least 2.
        seed (`int`, *optional*, defaults to 0): Random seed.
        **call_kwargs: Arguments of the pipeline's calls, such as `max_new_tokens`.

    Returns:
        A `list` of all candidates per prompt, best first, as for `pipe(prompts, return_all=True)`.

    Raises:
        TypeError, ValueError: If a count is invalid, or votes, a second reward or another number of candidates are
            given.

    Example:
    ```python
    >>> groups = best_within_budget(pipe, prompts, num_candidates=16, max_new_tokens=64)
    >>> best = [group[0] for group in groups]
    ```
    """
    check_count("num_candidates", num_candidates)
    check_count("min_candidates", min_candidates, 2)
    check_count("seed", seed, 0)
    if isinstance(prompts, str):
        raise TypeError("`prompts` must be a list of prompts, got text. Pass a list.")
    if min_candidates > num_candidates:
        raise ValueError(
            f"`min_candidates` must be at most the mean of {num_candidates}, got {min_candidates}. Lower it."
        )
    taken = sorted({"stop", "return_all", "vote", "extract_answer", "prune"} & call_kwargs.keys())
    if taken or pipe.options.vote or pipe.options.prune or pipe.options.is_adaptive or pipe.second_scorer is not None:
        raise ValueError(
            "Candidates of a shared budget must be ranked by one reward, once they are finished, got "
            f"{', '.join(f'`{name}`' for name in taken) or 'a pipeline with votes, pruning or a second reward'}. Leave "
            "that out."
        )
    settings = {**call_kwargs, "return_all": True}
    prompts = list(prompts)
    groups = pipe(prompts, num_candidates=min_candidates, seed=seed, **settings)
    rewards = [[one["score"] for one in group if one["score"] is not None] for group in groups]
    budget = (num_candidates - min_candidates) * len(groups)
    spread = [index for index, values in enumerate(rewards) if len(values) > 1]  # others show no spread
    more = [0] * len(groups)
    for index, count in zip(spread, allocate_candidates([rewards[index] for index in spread], budget), strict=True):
        more[index] = count
    for count in sorted({*more} - {0}):
        chosen = [index for index, wanted in enumerate(more) if wanted == count]
        added = pipe([prompts[index] for index in chosen], num_candidates=count, seed=seed + 1 + count, **settings)
        for index, group in zip(chosen, added, strict=True):
            groups[index] = rank_candidates([*groups[index], *group])
    return groups


def _gains(rewards: np.ndarray, most: int) -> np.ndarray:
    """Return the expected gains of the best reward by the first, second, ... of `most` further candidates."""
    from scipy.special import ndtr  # importing it is slow

    spread = float(rewards.std(ddof=1))
    if spread == 0 or most == 0:
        return np.zeros(most)
    width = spread * len(rewards) ** -0.2
    best = float(rewards.max())
    grid = np.linspace(best, best + 6 * width, 400)  # a kernel is negligible beyond six of its widths
    below = ndtr((grid[:, None] - rewards) / width).mean(-1)
    powers = below[:, None] ** np.arange(most)
    return np.trapezoid(powers * (1 - below)[:, None], grid, axis=0)
