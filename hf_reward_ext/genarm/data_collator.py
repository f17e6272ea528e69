"""Batches of preference pairs for an autoregressive reward model."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class PairCollator:
    """
    Turns rows `{prompt_ids, chosen_ids, rejected_ids}` into one batch: all chosen texts, then all rejected ones.

    Args:
        pad_token_id (`int`): What fills rows on the right.
        pad_to_multiple_of (`int`, *optional*): Rows get a length that it divides.

    Example:
    ```python
    >>> PairCollator(0)([{"prompt_ids": [5, 6], "chosen_ids": [7, 2], "rejected_ids": [2]}])
    {'input_ids': tensor([[5, 6, 7, 2], [5, 6, 2, 0]]),
     'attention_mask': tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
     'completion_mask': tensor([[False, False, True, True], [False, False, True, False]])}
    ```
    """

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int | None = None):
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """
        Returns:
            `input_ids`, `attention_mask`, `completion_mask` (bool), each `(2 * pairs, seq)`, and `margin` `(pairs,)`
            where the rows have one. A row's own `chosen_mask` and `rejected_mask` say which tokens count; without
            them all of the completion does.
        """
        texts, counted = [], []
        for side in ("chosen", "rejected"):
            for row in rows:
                ids = row[f"{side}_ids"]
                mask = row.get(f"{side}_mask") or [0] * len(row["prompt_ids"]) + [1] * len(ids)
                texts.append(torch.tensor(row["prompt_ids"] + ids))
                counted.append(torch.tensor(mask, dtype=torch.bool))
        batch = {
            "input_ids": self._pad(texts, self.pad_token_id),
            "attention_mask": self._pad([torch.ones_like(text) for text in texts], 0),
            "completion_mask": self._pad(counted, False),
        }
        if rows[0].get("margin") is not None:
            batch["margin"] = torch.tensor([row["margin"] for row in rows], dtype=torch.float32)
        return batch

    def _pad(self, rows: list[Tensor], value: int) -> Tensor:
        padded = pad_sequence(rows, batch_first=True, padding_value=value)
        surplus = -padded.shape[1] % (self.pad_to_multiple_of or 1)
        return torch.nn.functional.pad(padded, (0, surplus), value=value)
