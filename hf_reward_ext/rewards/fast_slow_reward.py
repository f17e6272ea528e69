"""Reward of a judge that writes only where its first token is not sure."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_reward_ext.fast_slow.judge.messages import plain_text
from hf_reward_ext.fast_slow.model import FastSlowRewardModel
from hf_reward_ext.fast_slow.train.reward_function import FastSlowRewardFunction
from hf_reward_ext.rewards.groups import group_rows
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
        self._function = FastSlowRewardFunction(judge, cache_size)

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        check_text_only(self.__name__, prompts, completions, columns)
        if self.judge.judge_prompt.is_pairwise:
            group_rows(self.__name__, [plain_text(prompt) for prompt in prompts], self.num_generations)
        rewards, metrics = self._function.rewards(prompts, completions)
        return Scored([*rewards], metrics)
