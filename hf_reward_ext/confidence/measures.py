"""Rewards that no training made: from the policy's own probabilities of the tokens that it writes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.confidence.running import Running, RunningLowest, RunningSum


class Measure(ABC):
    """A value of each token that is written, and how the values of a row become its reward."""

    @property
    def __name__(self) -> str:
        return type(self).__name__

    @abstractmethod
    def of_tokens(self, log_probs: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """
        Value of one token of each row.

        Args:
            log_probs (`torch.Tensor` of shape `(rows, vocab)`): Log-probabilities of the policy, as it was before
                temperature, top-p and other processors.
            tokens (`torch.Tensor` of shape `(rows,)`): The tokens that were written.
        """

    def start(self, zeros: Float[Tensor, " rows"]) -> Running:
        """The reward of rows without tokens; by default the mean of their values."""
        return RunningSum(zeros)


class MeanLogProbability(Measure):
    r"""
    $$ \frac{1}{T} \sum_t \log p(y_t) $$

    Example:
    ```python
    >>> pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model="mean_log_probability")
    ```
    """

    def of_tokens(self, log_probs: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return log_probs.gather(-1, tokens[:, None]).squeeze(-1)


@dataclass(frozen=True)
class GroupConfidence(Measure):
    r"""
    Lowest confidence of any group of tokens in succession.

    $$ C_t = -\frac{1}{k} \sum_{j=1}^{k} \log p_{(j)}, \qquad R = \min_s \frac{1}{w} \sum_{t=s}^{s+w-1} C_t $$

    [DeepConf](https://huggingface.co/papers/2508.15260): $p_{(j)}$ are the $k$ largest probabilities; where the policy
    is sure of one token, the others are small and $C_t$ is large. A completion of fewer than $w$ tokens is one group.

    Args:
        window (`int`, *optional*, defaults to 2048): $w$.
        top_k (`int`, *optional*): $k$; default: 20, or the vocabulary where it is smaller.

    Example:
    ```python
    >>> pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=GroupConfidence(window=256))
    ```
    """

    window: int = 2048
    top_k: int | None = None

    def __post_init__(self):
        check_count("window", self.window)
        if self.top_k is not None:
            check_count("top_k", self.top_k)

    def of_tokens(self, log_probs: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        vocabulary = log_probs.shape[-1]
        if self.top_k is not None and self.top_k > vocabulary:
            raise ValueError(
                f"`top_k` must be at most the {vocabulary} tokens of the policy's vocabulary, got {self.top_k}. Pass a "
                "smaller one."
            )
        count = self.top_k or min(20, vocabulary)
        return -log_probs.topk(count, dim=-1).values.mean(-1)

    def start(self, zeros: Float[Tensor, " rows"]) -> Running:
        return RunningLowest(zeros, self.window)


class SelfCertainty(Measure):
    r"""
    Mean distance of the policy from a uniform guess.

    $$ \frac{1}{T} \sum_t \mathrm{KL}(U \,\|\, p_t) = -\frac{1}{T V} \sum_t \sum_j \log (V p_{t,j}) $$

    [Self-certainty](https://huggingface.co/papers/2502.18581), equation 5.

    Example:
    ```python
    >>> pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model="self_certainty")
    ```
    """

    def of_tokens(self, log_probs: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        vocabulary = torch.tensor(log_probs.shape[-1], dtype=log_probs.dtype, device=log_probs.device)
        return -log_probs.mean(-1) - vocabulary.log()


class NegativeEntropy(Measure):
    r"""
    $$ \frac{1}{T} \sum_t \sum_j p_{t,j} \log p_{t,j} $$

    Example:
    ```python
    >>> pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model="negative_entropy")
    ```
    """

    def of_tokens(self, log_probs: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return -torch.special.entr(log_probs.exp()).sum(-1)


@dataclass(frozen=True)
class Length(Measure):
    """
    Number of tokens written, EOS included, times `per_token`: the baseline that any reward must beat.

    Args:
        per_token (`float`, *optional*, defaults to 1): -1 prefers short completions.

    Example:
    ```python
    >>> pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=Length(per_token=-1))
    ```
    """

    per_token: float = 1.0

    def __post_init__(self):
        check_number("per_token", self.per_token)

    def of_tokens(self, log_probs: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return log_probs.new_full((len(tokens),), self.per_token)

    def start(self, zeros: Float[Tensor, " rows"]) -> Running:
        return RunningSum(zeros, is_mean=False)
