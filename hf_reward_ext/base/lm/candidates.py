"""Several completions of each of some prompts."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class Candidates:
    """
    Candidates of prompts; rows are candidates, those of a prompt are neighbors.

    Attributes:
        sequences (`torch.Tensor` of shape `(rows, seq)`): Prompt and completion, padded on the right.
        num_tokens (`torch.Tensor` of shape `(rows,)`): Completion tokens written, EOS included.
        pruned (`torch.Tensor` of shape `(rows,)`): Which candidates were stopped before their end.
        rewards (`torch.Tensor` of shape `(rows,)`, *optional*): Rewards of the written tokens, if they were read while
            generating.
    """

    sequences: Int[Tensor, "rows seq"]
    num_tokens: Int[Tensor, " rows"]
    pruned: Bool[Tensor, " rows"]
    rewards: Float[Tensor, " rows"] | None = None
