"""What reads the rewards of rows while `generate` writes them."""

from typing import Protocol, Self

from jaxtyping import Bool, Float, Int
from torch import Tensor


class RewardReader(Protocol):
    """
    A context manager that rewards every row of the `generate` calls inside it, finished or not.

    [`HiddenStateReward`] is one, and so is [`LogitsReward`].

    Attributes:
        rewards (`torch.Tensor` of shape `(rows,)`): Reward of what each row of the last call holds.
        completion_mask (`torch.Tensor` of shape `(rows, new)`): Which tokens the last call wrote.
        is_finished (`torch.Tensor` of shape `(rows,)`): Which rows ended by themselves.
    """

    @property
    def rewards(self) -> Float[Tensor, " rows"]: ...

    @property
    def completion_mask(self) -> Bool[Tensor, "rows new"]: ...

    @property
    def is_finished(self) -> Bool[Tensor, " rows"]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info) -> None: ...

    def carry(self, rows: Int[Tensor, " kept"]) -> None:
        """
        The next call continues these rows of the last one, and their rewards then cover both.

        Args:
            rows (`torch.Tensor` of shape `(kept,)`): Indices of rows of the last call, in the order of the next.
        """
        ...
