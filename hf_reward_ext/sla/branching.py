"""Choice of the next tokens that the search tries."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Branching:
    """
    Choice of tokens at branch points; between branch points the most probable token is used.

    Args:
        branch_temperature (`float`, *optional*): Temperature at which the tokens of a branch point are drawn from the
            policy without replacement (Gumbel top-n). Default: the most probable tokens are used.
        branch_entropy (`float`, *optional*): Minimum entropy of the next token, in nats, for a leaf to fork.

    Raises:
        ValueError: If a number is out of range.

    Example:
    ```python
    >>> Branching()(torch.tensor([[0.0, 2.0, 1.0]]), [2])
    (tensor([0, 0]), tensor([1, 2]))
    ```
    """

    branch_temperature: float | None = None
    branch_entropy: float | None = None

    def __post_init__(self):
        if self.branch_temperature is not None and not 0 < self.branch_temperature < math.inf:
            raise ValueError(
                f"`branch_temperature` must be a number above 0, got {self.branch_temperature}. "
                "Leave it out for the most probable tokens."
            )
        if self.branch_entropy is not None and not 0 <= self.branch_entropy < math.inf:
            raise ValueError(
                f"`branch_entropy` must be a number of at least 0 nats, got {self.branch_entropy}. Leave it out "
                "to fork at every branch point."
            )

    def __call__(
        self, scores: Float[Tensor, "rows vocab"], counts: list[int]
    ) -> tuple[Int[Tensor, " proposals"], Int[Tensor, " proposals"]]:
        """
        Choose the next tokens of each row.

        Args:
            scores (`torch.Tensor` of shape `(rows, vocab)`): Logits of the next token; `-inf` is chosen only if there
                is no other token.
            counts (`list[int]`): Maximum number of tokens to choose for each row.

        Returns:
            Row and token of each proposal, rows in order, most probable (or first drawn) tokens first.
        """
        rows = torch.arange(len(scores), device=scores.device)
        if max(counts) == 1:
            return rows, scores.argmax(-1)
        wanted = torch.tensor(counts, device=scores.device)
        if self.branch_entropy is not None:
            wanted = torch.where(torch.special.entr(scores.softmax(-1)).sum(-1) < self.branch_entropy, 1, wanted)
        keys = self._keys(scores, wanted)
        tokens, possible = [], []
        for _ in range(max(counts)):
            best = keys.argmax(-1, keepdim=True)  # unlike `topk`, deterministic for equal scores
            tokens.append(best)
            possible.append(keys.gather(-1, best) > -torch.inf)
            keys.scatter_(-1, best, -torch.inf)
        order = torch.arange(len(tokens), device=scores.device)
        kept = torch.cat(possible, dim=-1) & (order < wanted[:, None]) | (order == 0)
        return rows[:, None].expand_as(kept)[kept], torch.cat(tokens, dim=-1)[kept]

    def _keys(self, scores: Tensor, wanted: Tensor) -> Tensor:
        if self.branch_temperature is None:
            return scores.clone()
        noise = -torch.empty_like(scores).exponential_().log()
        return torch.where(wanted[:, None] > 1, scores / self.branch_temperature + noise, scores)
