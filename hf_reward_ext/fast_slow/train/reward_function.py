"""Reward function for TRL's GRPO and RLOO trainers that calls a judge."""

import asyncio
from collections.abc import Sequence

from hf_reward_ext.base.recent import Recent
from hf_reward_ext.fast_slow.judge.best_response import mean_log_odds_of_duels
from hf_reward_ext.fast_slow.judge.messages import plain_text
from hf_reward_ext.fast_slow.model import FastSlowRewardModel


class FastSlowRewardFunction:
    """
    Reward function of gated rewards in nats, cached and asynchronous; it logs the share of written judgments.

    With pointwise verdicts rewards are those of [`FastSlowRewardModel.score`]. With pairwise verdicts the reward of a
    completion is its mean log-odds in comparisons with the other completions of its prompt, 0 if there are none.

    The trainer awaits all asynchronous reward functions together; the judge runs in a thread, one call at a time.
    [`FastSlowReward`] is the same reward with a name, checks of groups and nesting.

    Args:
        judge ([`FastSlowRewardModel`]): Calibrated judge.
        cache_size (`int`, *optional*, defaults to 10000): Maximum number of cached judgments; the least
            recently used ones are dropped.

    Example:
    ```python
    >>> GRPOTrainer(policy, reward_funcs=[FastSlowRewardFunction(judge)], args=args, train_dataset=prompts)
    ```
    """

    __name__ = "fast_slow"

    def __init__(self, judge: FastSlowRewardModel, cache_size: int = 10000):
        self.judge = judge
        self._cache: Recent[tuple[str, ...], tuple[float, bool]] = Recent(cache_size)
        self._lock: asyncio.Lock | None = None

    async def __call__(self, prompts: Sequence, completions: Sequence, log_metric=None, **kwargs) -> list[float]:
        """
        Compute the rewards of completions.

        Args:
            prompts, completions (`list` of `str` or of messages): One prompt per completion.
            log_metric (`callable`, *optional*): Function of the trainer that logs `fast_slow/slow_rate` and
                `fast_slow/cached_rate`.
            **kwargs: Other columns, which are ignored.
        """
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            rewards, metrics = await asyncio.to_thread(self.rewards, prompts, completions)
        if log_metric is not None:
            for name, value in metrics.items():
                log_metric(f"fast_slow/{name}", value)
        return rewards

    def rewards(self, prompts: Sequence, completions: Sequence) -> tuple[list[float], dict[str, float]]:
        """Return the rewards and the logged values, synchronously, for use outside a trainer."""
        texts = [(plain_text(prompt), plain_text(one)) for prompt, one in zip(prompts, completions, strict=True)]
        pairwise = self.judge.judge_prompt.is_pairwise
        decisions = _duels(texts) if pairwise else texts
        found, cached = self._cache.look_up(decisions, self._judge)
        scores = [score for score, _ in found]
        if pairwise:
            scores = mean_log_odds_of_duels(texts, dict(zip(decisions, scores, strict=True)))
        slow = sum(is_slow for _, is_slow in found) / max(len(found), 1)
        return list(scores), {"slow_rate": slow, "cached_rate": cached}

    def _judge(self, decisions: list[tuple[str, ...]]) -> list[tuple[float, bool]]:
        """Return the score of each decision, and whether it was written."""
        judgments = self.judge.judge(*map(list, zip(*decisions, strict=True)), show_progress=False)
        return [(judgment.score, judgment.mode == "slow") for judgment in judgments]


def _duels(texts: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Return every pair of different completions of a prompt once."""
    groups: dict[str, list[str]] = {}
    for prompt, completion in texts:
        groups.setdefault(prompt, []).append(completion)
    duels = []
    for prompt, completions in groups.items():
        different = list(dict.fromkeys(completions))
        duels += [(prompt, one, other) for index, one in enumerate(different) for other in different[index + 1 :]]
    return duels
