"""Batch of candidates: several completions of each prompt."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class Candidates:
    """
    Candidates of several prompts, one per row; the candidates of one prompt are adjacent.

    Attributes:
        sequences (`torch.Tensor` of shape `(rows, seq)`): Prompt and completion, padded on the right.
        num_tokens (`torch.Tensor` of shape `(rows,)`): Number of generated tokens, EOS included.
        pruned (`torch.Tensor` of shape `(rows,)`): `True` for candidates that were stopped before they were finished.
        rewards (`torch.Tensor` of shape `(rows,)`, *optional*): Rewards of the completions, if they were computed
            during generation.
    """

    sequences: Int[Tensor, "rows seq"]
    num_tokens: Int[Tensor, " rows"]
    pruned: Bool[Tensor, " rows"]
    rewards: Float[Tensor, " rows"] | None = None
