r"""
Confidences of a fast verdict and the rule that escalates it, as pure functions.

[Fast-Slow](https://huggingface.co/papers/2603.20212) describes a scalar score from the first token, two
confidences and a gate; its formulas were not available to us. Every formula here is our reconstruction.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

Rule = Literal["or", "and", "weighted"]


def verdict_probabilities(
    logits: Float[Tensor, "batch vocab"], verdict_token_ids: Int[Tensor, " verdicts"]
) -> Float[Tensor, "batch verdicts"]:
    r"""
    Return the probability of each verdict among the verdicts.

    $$ p_u = q_u / M, \quad q = \operatorname{softmax}(\ell), \quad M = \sum_{u \in U} q_u $$

    Args:
        logits (`torch.Tensor` of shape `(batch, vocab)`): Logits $\ell$ of the first generated token.
        verdict_token_ids (`torch.Tensor` of shape `(verdicts,)`): Verdict tokens $U$.

    Returns:
        `torch.Tensor` of shape `(batch, verdicts)`; every row sums to 1.

    Example:
    ```python
    >>> verdict_probabilities(torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([0, 1]))
    tensor([[0.5000, 0.5000]])
    ```
    """
    return logits[:, verdict_token_ids].float().softmax(-1)


def verdict_mass(
    logits: Float[Tensor, "batch vocab"], verdict_token_ids: Int[Tensor, " verdicts"]
) -> Float[Tensor, " batch"]:
    r"""
    Return the probability $M = \sum_{u \in U} q_u$ that the first token is a verdict at all.

    Example:
    ```python
    >>> verdict_mass(torch.zeros(1, 4), torch.tensor([0, 1]))
    tensor([0.5000])
    ```
    """
    logits = logits.float()
    return (logits[:, verdict_token_ids].logsumexp(-1) - logits.logsumexp(-1)).exp()


def fast_score(
    verdict_logits: Float[Tensor, "batch verdicts"], values: Float[Tensor, " verdicts"] | None = None
) -> Float[Tensor, " batch"]:
    r"""
    Return the scalar score of the first token.

    $$ s = \ell_0 - \ell_1 \quad\text{(two verdicts)}, \quad s = \sum_u \mathrm{value}(u)\, p_u \quad\text{(ratings)} $$

    Args:
        verdict_logits (`torch.Tensor` of shape `(batch, verdicts)`): Logits of the verdicts.
        values (`torch.Tensor` of shape `(verdicts,)`, *optional*): Value of each verdict. Without values there are
            two verdicts, the favorable one first, and the score is a log-odds in nats.

    Returns:
        `torch.Tensor` of shape `(batch,)`.

    Raises:
        ValueError: If there are no values and not exactly two verdicts.

    Example:
    ```python
    >>> fast_score(torch.tensor([[2.0, -1.0]]))
    tensor([3.])
    ```
    """
    if values is not None:
        return (verdict_logits.float().softmax(-1) * values).sum(-1)
    if verdict_logits.shape[-1] != 2:
        raise ValueError(
            f"`values` must be given for {verdict_logits.shape[-1]} verdicts, since only two verdicts have a plain "
            "log-odds, got None. Pass the value of each verdict."
        )
    return (verdict_logits[:, 0] - verdict_logits[:, 1]).float()


def order_average(first: Float[Tensor, " batch"], swapped: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    r"""
    Return the margin of a pair judged in both orders: $m = \frac12 (m(y_1, y_2) - m(y_2, y_1))$.

    A judge that depends on positions only has $m(y_1, y_2) = m(y_2, y_1)$ and gets 0.
    """
    return (first - swapped) / 2


def preference_probability(difference: Float[Tensor, " batch"], temperature: float = 1.0) -> Float[Tensor, " batch"]:
    r"""
    Return the probability that response 1 is better.

    $$ P(y_1 \succ y_2) = \sigma(\Delta / \tau) $$

    Args:
        difference (`torch.Tensor` of shape `(batch,)`): Score difference $\Delta$, or margin of the pair, in nats.
        temperature (`float`, *optional*): Temperature $\tau$, fitted on held-out pairs.

    Example:
    ```python
    >>> preference_probability(torch.tensor([0.0]))
    tensor([0.5000])
    ```
    """
    return (difference / temperature).sigmoid()


def intuition_confidence(difference: Float[Tensor, " batch"], temperature: float = 1.0) -> Float[Tensor, " batch"]:
    r"""
    Return the distance of a comparison from a coin flip, in $[0, 1]$.

    $$ C_{int} = |2P - 1| = \tanh(|\Delta| / 2\tau) $$

    Symmetric under swapping the responses; 0 at a tie.

    Example:
    ```python
    >>> intuition_confidence(torch.tensor([0.0, 100.0]))
    tensor([0., 1.])
    ```
    """
    return (difference.abs() / (2 * temperature)).tanh()


def distribution_confidence(
    probabilities: Float[Tensor, "batch verdicts"], mass: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    r"""
    Return the confidence that the first token is a verdict, and a certain one, in $[0, 1]$.

    $$ C_{dist} = M (1 - H(p) / \log |U|) $$

    0 for uniform $p$ or $M = 0$; 1 for a certain verdict.

    Args:
        probabilities (`torch.Tensor` of shape `(batch, verdicts)`): Verdict probabilities $p$.
        mass (`torch.Tensor` of shape `(batch,)`): Verdict mass $M$.

    Example:
    ```python
    >>> distribution_confidence(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.ones(2))
    tensor([1., 0.])
    ```
    """
    entropy = torch.special.entr(probabilities).sum(-1)
    return (mass * (1 - entropy / math.log(probabilities.shape[-1]))).clamp(0, 1)


def orders_agree(first: Float[Tensor, " batch"], swapped: Float[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """
    Return whether both orders of a pair prefer the same response; a tie agrees with everything.

    Args:
        first, swapped (`torch.Tensor` of shape `(batch,)`): Margin for the response shown first, in each order.

    Example:
    ```python
    >>> orders_agree(torch.tensor([1.0, 1.0]), torch.tensor([-2.0, 2.0]))
    tensor([ True, False])
    ```
    """
    return first * swapped <= 0


def escalate(
    intuition: Float[Tensor, " batch"],
    distribution: Float[Tensor, " batch"],
    intuition_threshold: float,
    distribution_threshold: float,
    rule: Rule = "or",
    weight: float = 0.5,
) -> Bool[Tensor, " batch"]:
    r"""
    Return which verdicts need a written judgment.

    $$ \text{or (default):}\quad C_{int} < \theta_I \;\lor\; C_{dist} < \theta_D $$

    `"and"` requires both conditions. `"weighted"` compares $w C_{int} + (1-w) C_{dist}$ with $w \theta_I + (1-w)
    \theta_D$. Thresholds of 0 never escalate; above 1 they always do.

    Args:
        intuition, distribution (`torch.Tensor` of shape `(batch,)`): Confidences, in $[0, 1]$.
        intuition_threshold, distribution_threshold (`float`): Thresholds $\theta_I$ and $\theta_D$.
        rule (`str`, *optional*): `"or"`, `"and"` or `"weighted"`.
        weight (`float`, *optional*): Weight $w$ of the weighted rule.

    Returns:
        `torch.Tensor` of shape `(batch,)`, bool.

    Raises:
        ValueError: If `rule` is unknown.

    Example:
    ```python
    >>> escalate(torch.tensor([0.9, 0.2]), torch.tensor([0.9, 0.9]), 0.5, 0.5)
    tensor([False,  True])
    ```
    """
    if rule == "or":
        return (intuition < intuition_threshold) | (distribution < distribution_threshold)
    if rule == "and":
        return (intuition < intuition_threshold) & (distribution < distribution_threshold)
    if rule == "weighted":
        threshold = weight * intuition_threshold + (1 - weight) * distribution_threshold
        return weight * intuition + (1 - weight) * distribution < threshold
    raise ValueError(f"`rule` must be 'or', 'and' or 'weighted', got {rule!r}. Choose one of them.")


def vocabulary_entropy_confidence(logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    r"""Return an alternative $C_{dist}$: $1 - H(q) / \log V$ over the whole vocabulary."""
    q = logits.float().softmax(-1)
    return (1 - torch.special.entr(q).sum(-1) / math.log(q.shape[-1])).clamp(0, 1)


def top_gap_confidence(logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """Return an alternative $C_{dist}$: probability of the most likely token minus that of the second."""
    top = F.softmax(logits.float(), -1).topk(2, -1).values
    return top[:, 0] - top[:, 1]
