"""Probability of a correct completion from the reward of a prefix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_reward_ext.base.options import check_number


@dataclass(frozen=True)
class PrefixCalibration:
    r"""
    Logistic map from the reward and the length of a prefix to a probability.

    $$ P = \sigma(a + b R + c \log t + d R \log t) $$

    A reward of few tokens is less informative than the same reward of many tokens, so a single slope for all lengths is
    overconfident for short prefixes.

    Args:
        intercept, reward, length, product (`float`): $a$, $b$, $c$, $d$.

    Example:
    ```python
    >>> calibration = PrefixCalibration.fit(meter.prefix_rewards, meter.completion_mask, labels)
    >>> HiddenStateStoppingCriteria(meter, tokenizer, calibration=calibration)
    ```
    """

    intercept: float
    reward: float
    length: float
    product: float

    def __post_init__(self):
        for name, value in vars(self).items():
            check_number(name, value)

    def __call__(
        self, rewards: Float[Tensor, "*shape"], num_tokens: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """
        Return probabilities.

        Args:
            rewards (`torch.Tensor`): Rewards of prefixes.
            num_tokens (`torch.Tensor`): Numbers of tokens of the prefixes.
        """
        length = num_tokens.log()
        return torch.sigmoid(self.intercept + self.length * length + (self.reward + self.product * length) * rewards)

    @classmethod
    def fit(
        cls,
        prefix_rewards: Float[Tensor, "rows seq"],
        completion_mask: Bool[Tensor, "rows seq"],
        labels: Sequence[float] | Tensor,
    ) -> Self:
        """
        Fit the map to completions that the head was not trained on, with the same weight for each completion.

        Args:
            prefix_rewards, completion_mask (`torch.Tensor` of shape `(rows, seq)`): Attributes of
                [`HiddenStateReward`] after a call.
            labels (`list` or `torch.Tensor` of shape `(rows,)`): 1 if the completion is correct, 0 if not.

        Raises:
            ValueError: If shapes differ, or all labels are equal.
        """
        from sklearn.linear_model import LogisticRegression  # importing it is slow

        rewards, mask = prefix_rewards.double().cpu().numpy(), completion_mask.bool().cpu().numpy()
        right = torch.as_tensor(labels).double().cpu().numpy()
        if rewards.shape != mask.shape or len(right) != len(mask):
            raise ValueError(
                f"Rewards of shape {rewards.shape}, a mask of {mask.shape} and {len(right)} labels were given, but "
                "each row needs one label. Pass those of one call."
            )
        if set(right.tolist()) != {0.0, 1.0}:
            raise ValueError(f"`labels` must hold zeros and ones, got {sorted(set(right.tolist()))}. Pass both kinds.")
        rows, places = mask.nonzero()
        counts = mask.cumsum(-1)[rows, places]
        columns = np.stack([rewards[rows, places], np.log(counts), rewards[rows, places] * np.log(counts)], axis=-1)
        weights = 1.0 / mask.sum(-1)[rows]
        model = LogisticRegression(C=1e6, max_iter=2000).fit(columns, right[rows], sample_weight=weights)
        return cls(float(model.intercept_[0]), *map(float, model.coef_[0]))
