"""Reward of a judge that writes only where its first token is not sure."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_reward_ext.fast_slow.judge.best_response import mean_log_odds_of_duels
from hf_reward_ext.fast_slow.judge.messages import plain_text
from hf_reward_ext.fast_slow.model import FastSlowRewardModel
from hf_reward_ext.rewards.groups import group_rows
from hf_reward_ext.rewards.recent import Recent
from hf_reward_ext.rewards.reward import AsyncReward, Scored
from hf_reward_ext.rewards.texts import check_text_only


class FastSlowReward(AsyncReward):
    """
    Gated reward of a judge in nats, for the `reward_funcs` of TRL's trainers: cached and asynchronous.

    With pointwise verdicts rewards are those of [`FastSlowRewardModel.score`]. With pairwise verdicts the reward of a
    completion is its mean log-odds in comparisons with the other completions of its prompt, 0 if there are none.

    Logs `fast_slow/slow_rate`, the share of written judgments, and `fast_slow/cached_rate`.

    Args:
        judge ([`FastSlowRewardModel`]): Calibrated judge.
        cache_size (`int`, *optional*, defaults to 10000): Maximum number of cached judgments; the least
            recently used ones are dropped.
        num_generations (`int`, *optional*): Number of completions per prompt, as in the trainer, which a judge of
            pairs needs with several processes.
        name (`str`, *optional*, defaults to `"fast_slow"`): Name in logs.

    Raises:
        TypeError: If the judge is another model.
        ValueError: If the cache size is negative; at a call, if a text has images or a group is not whole.

    Example:
    ```python
    >>> GRPOTrainer(policy, reward_funcs=[FastSlowReward(judge)], args=args, train_dataset=prompts)
    ```
    """

    def __init__(
        self,
        judge: FastSlowRewardModel,
        cache_size: int = 10000,
        *,
        num_generations: int | None = None,
        name: str = "fast_slow",
    ):
        if not isinstance(judge, FastSlowRewardModel):
            raise TypeError(
                f"`judge` must be a `FastSlowRewardModel`, got a `{type(judge).__name__}`. Use `ModelReward` for other "
                "models."
            )
        super().__init__(name)
        self.judge = judge
        self.num_generations = num_generations
        self._cache: Recent[tuple[str, ...], tuple[float, bool]] = Recent(cache_size)

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        check_text_only(self.__name__, prompts, completions, columns)
        texts = [(plain_text(prompt), plain_text(one)) for prompt, one in zip(prompts, completions, strict=True)]
        pairwise = self.judge.judge_prompt.is_pairwise
        decisions = self._duels(texts) if pairwise else texts
        found, cached = self._cache.look_up(decisions, self._judge)
        scores = [score for score, _ in found]
        if pairwise:
            scores = mean_log_odds_of_duels(texts, dict(zip(decisions, scores, strict=True)))
        slow = sum(is_slow for _, is_slow in found) / max(len(found), 1)
        return Scored(list(scores), {"slow_rate": slow, "cached_rate": cached})

    def _judge(self, decisions: list[tuple[str, ...]]) -> list[tuple[float, bool]]:
        """Return the score of each decision, and whether it was written."""
        judgments = self.judge.judge(*map(list, zip(*decisions, strict=True)), show_progress=False)
        return [(judgment.score, judgment.mode == "slow") for judgment in judgments]

    def _duels(self, texts: list[tuple[str, str]]) -> list[tuple[str, ...]]:
        """Return every pair of different completions of a prompt once."""
        groups = group_rows(self.__name__, [prompt for prompt, _ in texts], self.num_generations)
        duels = []
        for prompt, rows in groups.items():
            different = list(dict.fromkeys(texts[row][1] for row in rows))
            duels += [(prompt, one, other) for index, one in enumerate(different) for other in different[index + 1 :]]
        return duels
