"""Reward that counts only where a condition is met."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_reward_ext.base.options import check_number
from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.rewards.reward import Scored, SyncReward

# What TRL passes to reward functions besides columns of one value per completion.
_WHOLE_BATCH = ("trainer_state", "log_metric")


class ConditionedReward(SyncReward):
    r"""
    Reward that counts only for completions whose condition reaches a threshold.

    $$ r = \begin{cases} r_2 & r_1 \ge t \\ r_0 & \text{otherwise} \end{cases} $$

    Source: [GDPO](https://huggingface.co/papers/2601.05242), eq. 8, with $r_0 = 0$. An easy reward, such as a length
    or format, can then not be collected without the hard one. The second reward is computed only where it counts, and
    where the condition has no answer (`None`), this reward has none.

    Logs `<name>/pass_rate` of the completions whose condition has an answer, and the columns `<name>/condition`.

    Args:
        condition (`callable` or model): First reward $r_1$, see [`as_scorer`].
        reward (`callable` or model): Second reward $r_2$, see [`as_scorer`].
        threshold (`float`, *optional*, defaults to 1.0): Smallest value $t$ of the condition that passes.
        otherwise (`float`, *optional*, defaults to 0.0): Reward $r_0$ of completions that do not pass.
        name (`str`, *optional*): Name in logs. Default: the name of the second reward with `_if_` and that of the
            first.

    Raises:
        TypeError: If one of the two cannot score text.
        ValueError: If a number is not finite.

    Example:
    ```python
    >>> short_if_right = ConditionedReward(AnswerReward(r"=(\d+)$"), LengthControlled(budget=20))
    >>> GRPOTrainer(policy, reward_funcs=[AnswerReward(r"=(\d+)$"), short_if_right], args=args, ...)
    ```
    """

    def __init__(
        self,
        condition: Any,
        reward: Any,
        *,
        threshold: float = 1.0,
        otherwise: float = 0.0,
        name: str | None = None,
    ):
        check_number("threshold", threshold)
        check_number("otherwise", otherwise)
        self.condition, self.reward = as_single_scorer(condition), as_single_scorer(reward)
        self.threshold = threshold
        self.otherwise = otherwise
        default = f"{self.reward.__name__}_if_{self.condition.__name__}"
        super().__init__(name or default, [self.condition, self.reward])

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        conditions = self.condition(prompts, completions, **columns)
        passed = [row for row, value in enumerate(conditions) if value is not None and value >= self.threshold]
        rewards: Rewards = [None if value is None else self.otherwise for value in conditions]
        if passed:
            found = self.reward(
                [prompts[row] for row in passed],
                [completions[row] for row in passed],
                **_of_rows(columns, passed, len(completions)),
            )
            for row, reward in zip(passed, found, strict=True):
                rewards[row] = reward
        answered = sum(value is not None for value in conditions)
        metrics = {"pass_rate": len(passed) / answered} if answered else {}
        return Scored(rewards, metrics, {"condition": conditions})


def _of_rows(columns: Mapping[str, Any], rows: Sequence[int], count: int) -> dict[str, Any]:
    """Return the columns of some rows; a table of completions needs all rows, so its logger is left out."""
    chosen = {}
    for name, values in columns.items():
        if name in _WHOLE_BATCH:
            chosen[name] = values
        elif name != "log_extra":
            if not hasattr(values, "__len__") or len(values) != count:
                raise ValueError(
                    f"The column {name!r} must have one value for each of {count} completions, got {values!r:.80}. "
                    "Repeat it."
                )
            chosen[name] = [values[row] for row in rows]
    return chosen
