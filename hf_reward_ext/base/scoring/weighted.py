"""Weighted sums of several reward models."""

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

    Without [`fit`], $\mu_k = 0$ and $\sigma_k = 1$: rewards are added without scaling.

    Args:
        scorers (`list`): [`TextScorer`]s, names or folders of reward models, or reward functions, see [`as_scorer`].
        weights (`list[float]`, *optional*): One weight per scorer. Default: equal weights with the sum 1.

    Attributes:
        scorers (`list` of [`Scorer`]): The scorers.
        mean, scale (`torch.Tensor` of shape `(scorers,)`): $\mu_k$ and $\sigma_k$.

    Raises:
        ValueError: If there is no scorer, or the number of finite weights differs.

    Example:
    ```python
    >>> reward = WeightedReward([helpful, harmless], [0.7, 0.3]).fit(prompts, completions)
    >>> GRPOTrainer(policy, reward_funcs=reward, ...)
    ```
    """

    __name__ = "weighted_reward"  # the name in TRL's logs

    def __init__(self, scorers: Sequence[Any], weights: Sequence[float] | None = None):
        self.scorers = [as_single_scorer(scorer) for scorer in scorers]
        count = len(self.scorers)
        given = [1 / count] * count if weights is None and count else weights or []
        self.weights = torch.tensor([float(weight) for weight in given], dtype=torch.float64)
        if not count or len(self.weights) != count or not self.weights.isfinite().all():
            raise ValueError(
                f"`weights` must be one finite number for each of the {count} scorers, got {weights}. Pass as many "
                "weights as scorers."
            )
        self.mean = torch.zeros(count, dtype=torch.float64)
        self.scale = torch.ones(count, dtype=torch.float64)

    def fit(self, prompts: Sequence, completions: Sequence) -> Self:
        """
        Estimate mean and standard deviation of each reward, so that the weights apply to rewards of one scale.

        Args:
            prompts, completions: Prompts and completions, for example some tens of samples of the policy.

        Raises:
            ValueError: If a reward is equal for all completions, or missing for one.
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
        """Return the unscaled rewards of every scorer in double precision; NaN for `None`."""
        columns = []
        for scorer in self.scorers:
            values = [torch.nan if reward is None else reward for reward in scorer(prompts, completions, **kwargs)]
            columns.append(torch.tensor(values, dtype=torch.float64))
        return torch.stack(columns, dim=-1)

    def scorer(self, tokenizer=None, batch_size: int = 16) -> Scorer:
        """Return the sum as a scorer, for [`as_scorer`]; it has no answer if one of its scorers has none."""
        return Scorer(self._answers, name=self.__name__, parts=self.scorers)

    def _answers(self, prompts: Sequence, completions: Sequence, **columns) -> Rewards:
        rewards = self(prompts, completions, **columns).tolist()
        return [None if math.isnan(reward) else reward for reward in rewards]

    def __call__(self, prompts: Sequence, completions: Sequence, **kwargs) -> Float[Tensor, " batch"]:
        """
        Compute the weighted rewards of completions.

        Args:
            prompts (`list` of `str` or of message lists): One per completion.
            completions (`list` of `str` or of message lists): The completions to score.
            **kwargs: Columns that TRL passes to reward functions, for scorers that read them. `log_metric` logs the
                mean of each scorer.

        Returns:
            `torch.Tensor` of shape `(batch,)`, float32, on the CPU; NaN if a scorer returns `None`.
        """
        separate = self.separate(prompts, completions, **kwargs)
        if kwargs.get("log_metric") is not None:
            for scorer, mean in zip(self.scorers, separate.nanmean(0).tolist(), strict=True):
                kwargs["log_metric"](f"{self.__name__}/{scorer.__name__}", mean)
        return ((separate - self.mean) / self.scale @ self.weights).float()
