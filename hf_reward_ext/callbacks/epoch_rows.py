"""Training data whose rows can be exchanged between epochs."""

import random
from collections.abc import Sequence

from torch.utils.data import Dataset


class EpochRows(Dataset):
    """
    Data of a constant length, so that a trainer's steps per epoch stay the same.

    Args:
        rows (`Sequence[dict]`): Rows of the first epoch, whose number is the length.
    """

    def __init__(self, rows: Sequence[dict]):
        self._length = len(rows)
        self.use(rows)

    def use(self, rows: Sequence[dict], seed: int = 0) -> None:
        """
        Exchange the rows: fewer than the length are repeated, of more a random part is used.

        Args:
            rows (`Sequence[dict]`): New rows.
            seed (`int`, *optional*): Random seed of the part.
        """
        order = list(range(len(rows)))
        if len(rows) > self._length:
            order = random.Random(seed).sample(order, self._length)
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict:
        return self._rows[self._order[index % len(self._order)]]
