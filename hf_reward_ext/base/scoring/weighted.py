"""Several reward models become one reward."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import Scorer, as_single_scorer


class WeightedReward:
    r"""
    A weighted sum of rewards, for the pipeline, the evaluators and TRL's `reward_funcs`.

    $$ r = \sum_k w_k \frac{r_k - \mu_k}{\sigma_k} $$

    Without [`fit`], $\mu_k = 0$ and $\sigma_k = 1$: rewards of different scales are added as they are.

    Args:
        scorers (`list`): [`TextScorer`]s, names or folders of reward models, or reward functions, see [`as_scorer`].
        weights (`list[float]`, *optional*): One per scorer. Default: equal ones that sum to one.

    Attributes:
        scorers (`list` of [`Scorer`]): The scorers.
        mean, scale (`torch.Tensor` of shape `(scorers,)`): $\mu_k$ and $\sigma_k$.

    Raises:
        ValueError: If there is no scorer, or not one finite weight for each.

    Example:
    ```python
    >>> reward = WeightedReward([helpful, harmless], [0.7, 0.3]).fit(prompts, completions)
    >>> GRPOTrainer(policy, reward_funcs=reward, ...)
    ```
    """

    __name__ = "weighted_reward"  # TRL logs it under this name

    def __init__(self, scorers: Sequence[Any], weights: Sequence[float] | None = None):
        self.scorers = [as_single_scorer(scorer) for scorer in scorers]
        count = len(self.scorers)
        given = [1 / count] * count if weights is None and count else weights or []
        self.weights = torch.tensor([float(weight) for weight in given], dtype=torch.float64)
        if not count or len(self.weights) != count or not self.weights.isfinite().all():
            raise ValueError(
                f"`weights={weights}` were given for {count} scorers, but each scorer needs one finite weight. Pass as "
                "many as scorers."
            )
        self.mean = torch.zeros(count, dtype=torch.float64)
        self.scale = torch.ones(count, dtype=torch.float64)

    def fit(self, prompts: Sequence, completions: Sequence) -> Self:
        """
        Takes mean and standard deviation of each reward from completions, so that weights compare like with like.

        Args:
            prompts, completions: As for the call, for example some tens of the policy's samples.

        Raises:
            ValueError: If a reward is the same for all of them, or missing for one.
        """
        rewards = self.separate(prompts, completions)
        scale = rewards.std(0) if len(rewards) > 1 else torch.zeros(len(self.scorers))
        if not bool((scale > 0).all()):
            number = int((~(scale > 0)).nonzero()[0])
            raise ValueError(
                f"Scorer {number} gives {len(rewards)} completions rewards with the deviation {float(scale[number])}, "
                "so it has no scale. Fit on more completions, or leave the scorer out."
            )
        self.mean, self.scale = rewards.mean(0), scale
        return self

    def separate(self, prompts: Sequence, completions: Sequence, **kwargs) -> Float[Tensor, "batch scorers"]:
        """Rewards of every scorer as they come, double precision; NaN where a scorer gives `None`."""
        columns = []
        for scorer in self.scorers:
            values = [torch.nan if reward is None else reward for reward in scorer(prompts, completions, **kwargs)]
            columns.append(torch.tensor(values, dtype=torch.float64))
        return torch.stack(columns, dim=-1)

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """The sum as a scorer without an answer where one of its scorers has none; for [`as_scorer`]."""

        def score(prompts, completions, **columns) -> Rewards:
            rewards = self(prompts, completions, **columns).tolist()
            return [None if math.isnan(reward) else reward for reward in rewards]

        return Scorer(score, name=self.__name__, parts=self.scorers)

    def __call__(self, prompts: Sequence, completions: Sequence, **kwargs) -> Float[Tensor, " batch"]:
        """
        Args:
            prompts (`list` of `str` or of message lists): One per completion.
            completions (`list` of `str` or of message lists): The completions to score.
            **kwargs: Columns that TRL passes to reward functions, for scorers that read them.

        Returns:
            `torch.Tensor` of shape `(batch,)`, float32, on the CPU; NaN where a scorer gives `None`.
        """
        rewards = (self.separate(prompts, completions, **kwargs) - self.mean) / self.scale
        return (rewards @ self.weights).float()
