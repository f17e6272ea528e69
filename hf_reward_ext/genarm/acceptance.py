"""Acceptance of draft tokens by the rule of speculative sampling."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def count_accepted(
    scores: Float[Tensor, "rows positions vocab"],
    drafts: Int[Tensor, "rows drafts"],
    draft_scores: Float[Tensor, "rows drafts vocab"] | None = None,
) -> Int[Tensor, " rows"]:
    r"""
    Return the number of leading draft tokens that each row keeps.

    $$ P(\text{keep } y) = \min\left(1, \frac{p(y)}{q(y)}\right) $$

    The rule of [speculative sampling](https://huggingface.co/papers/2211.17192) for a target $p$ and a draft $q$.

    Args:
        scores (`torch.Tensor` of shape `(rows, drafts + 1, vocab)`): Scores of the target at each draft, and after all
            of them.
        drafts (`torch.Tensor` of shape `(rows, drafts)`): Draft tokens.
        draft_scores (`torch.Tensor` of shape `(rows, drafts, vocab)`, *optional*): Scores that the drafts were drawn
            from. Default: drafts are kept while they are the most probable tokens of the target.

    Returns:
        `torch.Tensor` of shape `(rows,)`, from 0 to the number of drafts.

    Example:
    ```python
    >>> count_accepted(torch.eye(3)[None], torch.tensor([[0, 2]]))
    tensor([1])
    ```
    """
    if draft_scores is None:
        is_kept = scores[:, :-1].argmax(-1) == drafts
    else:
        target, draft = (
            (values.gather(-1, drafts[..., None]).squeeze(-1) - values.logsumexp(-1)).exp()
            for values in (scores[:, :-1], draft_scores)
        )
        is_kept = torch.rand_like(target) * draft < target
    return is_kept.long().cumprod(-1).sum(-1)


def draw_following(
    scores: Float[Tensor, "rows positions vocab"],
    counts: Int[Tensor, " rows"],
    draft_scores: Float[Tensor, "rows drafts vocab"] | None = None,
) -> Int[Tensor, " rows"]:
    r"""
    Return the token that follows the kept drafts of each row.

    $$ y \sim \frac{\max(0, p - q)}{\sum \max(0, p - q)} \text{ after a rejected draft}, \qquad y \sim p
       \text{ after the last draft} $$

    Args:
        scores, draft_scores: As for [`count_accepted`].
        counts (`torch.Tensor` of shape `(rows,)`): Number of drafts that each row keeps.

    Returns:
        `torch.Tensor` of shape `(rows,)`; without `draft_scores` the most probable tokens.

    Example:
    ```python
    >>> draw_following(torch.eye(3)[None], torch.tensor([1]))
    tensor([1])
    ```
    """
    rows = torch.arange(len(scores), device=scores.device)
    last = scores[rows, counts]
    if draft_scores is None:
        return last.argmax(-1)
    target = last.softmax(-1)
    count = draft_scores.shape[1]
    draft = draft_scores[rows, counts.clamp(max=count - 1)].softmax(-1)
    # No draft was rejected where all were kept: nothing is subtracted.
    rest = (target - draft * (counts < count)[:, None]).clamp(min=0)
    # Rounding may reject a draft of two equal distributions, which leaves no rest.
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, target)
    return torch.multinomial(rest, 1).squeeze(-1)
