"""Batches of preference pairs with the tokens that count marked."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass
class PairCollator:
    """
    Rows `{prompt_ids, chosen_ids, rejected_ids}` (and masks, `margin`) to one batch: chosen rows, then rejected ones.

    Args:
        pad_token_id (`int`): Pads on the right.
    """

    pad_token_id: int

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """
        Returns:
            `input_ids`, `attention_mask`, `completion_mask` of shape `(2 * pairs, seq)`, and `margin` `(pairs,)` if
            the rows have one.
        """
        ids, masks = [], []
        for side in ("chosen", "rejected"):
            for row in rows:
                prompt, completion = row["prompt_ids"], row[f"{side}_ids"]
                ids.append(torch.tensor(prompt + completion))
                masks.append(torch.tensor(row.get(f"{side}_mask") or [0] * len(prompt) + [1] * len(completion)))
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "completion_mask": pad_sequence(masks, batch_first=True).bool(),
        }
        if rows[0].get("margin") is not None:
            batch["margin"] = torch.tensor([row["margin"] for row in rows], dtype=torch.float32)
        return batch
