"""Batches of preference pairs with the positions of their completions."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class PairCollator:
    """
    Turns rows `{prompt_ids, chosen_ids, rejected_ids}` into one batch, chosen texts first.

    Args:
        pad_token_id (`int`): What fills rows on the right; `attention_mask` tells it from text.

    Example:
    ```python
    >>> PairCollator(0)([{"prompt_ids": [5], "chosen_ids": [6, 2], "rejected_ids": [2]}])["completion_mask"]
    tensor([[False,  True,  True],
            [False,  True, False]])
    ```
    """

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """
        Returns:
            `input_ids`, `attention_mask` and `completion_mask` `(2 * pairs, seq)`, the last `True` on the tokens that
            count, EOS included; and `row` `(pairs,)` where the rows are numbered.
        """
        texts, counted = [], []
        for side in ("chosen", "rejected"):
            for row in rows:
                text = [*row["prompt_ids"], *row[f"{side}_ids"]]
                mask = row.get(f"{side}_mask") or [0] * len(row["prompt_ids"]) + [1] * len(row[f"{side}_ids"])
                texts.append(torch.tensor(text))
                counted.append(torch.tensor(mask, dtype=torch.bool))
        batch = {
            "input_ids": pad_sequence(texts, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], batch_first=True),
            "completion_mask": pad_sequence(counted, batch_first=True),
        }
        if "row" in rows[0]:
            batch["row"] = torch.tensor([row["row"] for row in rows])
        return batch
