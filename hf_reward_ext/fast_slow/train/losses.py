"""Losses on the first token and on the written judgment of a judge, as pure functions with one value per row."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def verdict_token_loss(
    logits: Float[Tensor, "rows vocab"], verdict_token_ids: Int[Tensor, " verdicts"], targets: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    r"""
    Return the negative log-probability of the correct verdict as first token, over the whole vocabulary.

    $$ L = -\log q_{u^*}, \qquad L = -\log M = -\log \sum_{u \in U} q_u \;\text{ if the correct verdict is unknown} $$

    Args:
        logits (`torch.Tensor` of shape `(rows, vocab)`): Logits of the first token.
        verdict_token_ids (`torch.Tensor` of shape `(verdicts,)`): Verdict tokens $U$.
        targets (`torch.Tensor` of shape `(rows,)`): Index of $u^*$ in $U$; -1 if unknown.

    Returns:
        `torch.Tensor` of shape `(rows,)`, in nats.

    Example:
    ```python
    >>> verdict_token_loss(torch.zeros(2, 4), torch.tensor([0, 1]), torch.tensor([0, -1]))  # log 4, log 2
    tensor([1.3863, 0.6931])
    ```
    """
    logits = logits.float()
    verdicts = logits[:, verdict_token_ids]
    known = verdicts.gather(-1, targets.clamp(min=0)[:, None]).squeeze(-1)
    return logits.logsumexp(-1) - torch.where(targets >= 0, known, verdicts.logsumexp(-1))


def pairwise_margins(
    chosen_first: Float[Tensor, " pairs"], rejected_first: Float[Tensor, " pairs"]
) -> Float[Tensor, "pairs orders"]:
    """
    Return the margins for the chosen response in both orders, from the margins for the response shown first.

    Example:
    ```python
    >>> pairwise_margins(torch.tensor([2.0]), torch.tensor([-1.0]))
    tensor([[2., 1.]])
    ```
    """
    return torch.stack([chosen_first, -rejected_first], -1)


def judgment_losses(token_logps: Float[Tensor, "rows seq"], mask: Bool[Tensor, "rows seq"]) -> Float[Tensor, " rows"]:
    r"""
    Return the mean loss over the tokens of each judgment; 0 for rows without a judgment.

    $$ L = -\frac{1}{|c|} \sum_{t \in c} \log \pi(c_t \mid x, y, v_0, c_{<t}) $$

    Args:
        token_logps (`torch.Tensor` of shape `(rows, seq)`): Log-probability of each written token.
        mask (`torch.Tensor` of shape `(rows, seq)`): `True` on analysis, marker and final verdict, not on the first
            verdict. Rows without any have no judgment.

    Example:
    ```python
    >>> judgment_losses(torch.tensor([[-1.0, -3.0], [-9.0, -9.0]]), torch.tensor([[True, True], [False, False]]))
    tensor([2., 0.])
    ```
    """
    return -token_logps.masked_fill(~mask, 0).sum(-1) / mask.sum(-1).clamp(min=1)
