"""Batches of preference pairs with the positions of their completions."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class PairCollator:
    """
    Collator of rows `{prompt_ids, chosen_ids, rejected_ids}` into one batch: all chosen texts, then all rejected ones.

    Args:
        pad_token_id (`int`): Id that fills rows on the right.
        pad_to_multiple_of (`int`, *optional*): Number that divides the padded length.

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
        Collate rows of token ids.

        Args:
            rows (`list[dict]`): Pairs of token ids. Optional: `chosen_mask` and `rejected_mask` over prompt and
                completion, 1 on the tokens that count (default: all of the completion); `margin`; `row`, a number.

        Returns:
            `input_ids`, `attention_mask`, `completion_mask` (bool), each `(2 * pairs, seq)`; `margin` and `row`
            `(pairs,)` if the rows have them.

        Raises:
            ValueError: If some rows have a margin and others have none.
        """
        texts, counted = [], []
        for side in ("chosen", "rejected"):
            for row in rows:
                ids = [*row["prompt_ids"], *row[f"{side}_ids"]]
                mask = row.get(f"{side}_mask")
                start = len(row["prompt_ids"])
                texts.append(torch.tensor(ids))
                counted.append(torch.arange(len(ids)) >= start if mask is None else torch.as_tensor(mask).bool())
        batch = {
            "input_ids": self._pad(texts, self.pad_token_id),
            "attention_mask": self._pad([torch.ones_like(text) for text in texts], 0),
            "completion_mask": self._pad(counted, False),
        }
        margins = margins_of(rows)
        if margins is not None:
            batch["margin"] = margins
        if "row" in rows[0]:
            batch["row"] = torch.tensor([row["row"] for row in rows])
        return batch

    def _pad(self, rows: list[Tensor], value: int) -> Tensor:
        padded = pad_sequence(rows, batch_first=True, padding_value=value)
        surplus = -padded.shape[1] % (self.pad_to_multiple_of or 1)
        return torch.nn.functional.pad(padded, (0, surplus), value=value)


def margins_of(rows: list[dict]) -> Tensor | None:
    """
    Return the margins `(pairs,)` of rows, or `None` if they have none.

    Raises:
        ValueError: If some rows have a margin and others have none.
    """
    margins = [row.get("margin") for row in rows]
    if all(margin is None for margin in margins):
        return None
    if None in margins:
        raise ValueError(
            "`margin` must be a number in all rows or in none, got None in some. Give these rows a margin of 0."
        )
    return torch.tensor([float(margin) for margin in margins], dtype=torch.float32)  # pyright: ignore[reportArgumentType]
