"""Control of the length of completions."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.rewards.reward import Scored, SyncReward


class LengthControlled(SyncReward):
    r"""
    Reward minus a price of the tokens beyond a budget.

    $$ r = r_1 - \lambda \max\left(0, \frac{n - n_0}{n_0}\right) $$

    Our formula: nothing changes within the budget $n_0$, and twice the budget costs $\lambda$. Logs `<name>/length`,
    the mean number of tokens, and `<name>/over_budget_rate`.

    Args:
        reward (`callable` or model, *optional*): Reward $r_1$, see [`as_scorer`]. Default: 0, for the price alone.
        budget (`int`): Number of free tokens $n_0$.
        weight (`float`, *optional*, defaults to 1.0): Price $\lambda$, not negative.
        name (`str`, *optional*): Name in logs. Default: the name of the reward with `_length_controlled`, or
            `length_control` without one.

    Raises:
        TypeError: If the reward cannot score text, or the budget is not an integer.
        ValueError: If a number is out of range.

    Example:
    ```python
    >>> LengthControlled(budget=2).score(["x"] * 2, ["a", "b"], completion_ids=[[5], [5, 6, 7, 8]])
    [0.0, -1.0]
    ```
    """

    def __init__(self, reward: Any = None, *, budget: int, weight: float = 1.0, name: str | None = None):
        check_count("budget", budget)
        check_number("weight", weight, least=0)
        self.reward = None if reward is None else as_single_scorer(reward)
        self.budget = budget
        self.weight = weight
        default = "length_control" if self.reward is None else f"{self.reward.__name__}_length_controlled"
        super().__init__(name or default, [] if self.reward is None else [self.reward])

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        if "completion_ids" not in columns:
            raise ValueError(
                f"`completion_ids` must be given, since `{self.__name__}` counts tokens, got none. Pass the token ids "
                "of the completions, as TRL's trainers do."
            )
        lengths = [len(ids) for ids in columns["completion_ids"]]
        rewards = [0.0] * len(lengths) if self.reward is None else self.reward(prompts, completions, **columns)
        over = [max(0.0, (length - self.budget) / self.budget) for length in lengths]
        controlled = [
            None if reward is None else reward - self.weight * excess
            for reward, excess in zip(rewards, over, strict=True)
        ]
        count = max(len(lengths), 1)
        metrics = {"length": sum(lengths) / count, "over_budget_rate": sum(excess > 0 for excess in over) / count}
        return Scored(controlled, metrics)
