"""Protocol of readers of rewards during `generate`."""

from typing import Protocol, Self

from jaxtyping import Bool, Float, Int
from torch import Tensor


class RewardReader(Protocol):
    """
    Context manager that computes the reward of every row of the `generate` calls inside it, finished or not.

    Implemented by [`HiddenStateReward`] and [`LogitsReward`].

    Attributes:
        rewards (`torch.Tensor` of shape `(rows,)`): Reward of each row of the last call.
        completion_mask (`torch.Tensor` of shape `(rows, new)`): `True` on tokens that the last call generated.
        is_finished (`torch.Tensor` of shape `(rows,)`): `True` for rows that were not ended by the length
            limit.
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
        Continue selected rows of the last call in the next one, with rewards over both.

        Args:
            rows (`torch.Tensor` of shape `(kept,)`): Indices of rows of the last call, in the order of the next.
        """
        ...
