"""Training-free rewards from the policy's probabilities of generated tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.confidence.running import Running, RunningLowest, RunningSum


class Measure(ABC):
    """Measure of each generated token, and the aggregation of a row's values to its reward."""

    @property
    def __name__(self) -> str:
        return type(self).__name__

    @abstractmethod
    def of_tokens(self, log_probs: Float[Tensor, "rows vocab"], tokens: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """
        Return the value of one token of each row.

        Args:
            log_probs (`torch.Tensor` of shape `(rows, vocab)`): Log-probabilities of the policy, before
                temperature, top-p and other processors.
            tokens (`torch.Tensor` of shape `(rows,)`): Generated tokens.
        """

    def start(self, zeros: Float[Tensor, " rows"]) -> Running:
        """Return the initial state of rows, by default of a mean of their values."""
        return RunningSum(zeros)


class MeanLogProbability(Measure):
    r"""
    Mean log-probability of the generated tokens.

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
    Lowest mean confidence of any group of consecutive tokens.

    $$ C_t = -\frac{1}{k} \sum_{j=1}^{k} \log p_{(j)}, \qquad R = \min_s \frac{1}{w} \sum_{t=s}^{s+w-1} C_t $$

    [DeepConf](https://huggingface.co/papers/2508.15260): $p_{(j)}$ are the $k$ largest probabilities. If the
    policy is confident in one token, the others are small and $C_t$ is large. A completion of fewer than $w$ tokens is
    one group.

    Args:
        window (`int`, *optional*, defaults to 2048): Number of tokens $w$ of a group.
        top_k (`int`, *optional*): Number of probabilities $k$. Default: 20, or the size of a smaller vocabulary.

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

    @property
    def num_needed(self) -> int:
        """Number of largest log-probabilities that an engine has to return of each step."""
        return self.top_k or 20

    def of_top(self, top_log_probabilities: Sequence[Sequence[float]]) -> float:
        """
        Return the reward of one completion from the largest log-probabilities of each step, as engines return them.

        Raises:
            ValueError: If a step has fewer than `top_k` (20).
        """
        count = self.num_needed
        fewest = min(map(len, top_log_probabilities))
        if fewest < count:
            raise ValueError(
                f"The engine must return the {count} largest log-probabilities of each step, got {fewest}. Ask it for "
                "more, or pass `GroupConfidence(top_k=...)`."
            )
        running = self.start(torch.zeros(1, dtype=torch.float64))
        for step in top_log_probabilities:
            value = torch.tensor([-sum(step[:count]) / count], dtype=torch.float64)
            running.update(value, torch.tensor([True]))
        return float(running.value())


class SelfCertainty(Measure):
    r"""
    Mean divergence of the uniform distribution from the policy.

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
    Mean negative entropy of the next-token distribution.

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
    Number of generated tokens, EOS included, times `per_token`; a baseline for other rewards.

    Args:
        per_token (`float`, *optional*, defaults to 1): Reward per token; -1 prefers short completions.

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
