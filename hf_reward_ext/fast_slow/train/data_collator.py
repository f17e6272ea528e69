"""Pairs become rows whose prompts end in the same column, so that one slice of the logits serves all of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_reward_ext.fast_slow.train.preference_pairs import SIDES


@dataclass
class JudgeCollator:
    """
    A batch of stage 1.

    Every judgement is a row, and every side without one; prompts are padded on the left, what follows on the right.

    Args:
        pad_token_id (`int`): Fills; masked.
        num_given (`int`): Tokens of first verdict and analysis prefix, which the judge does not learn to write.

    Example:
    ```python
    >>> batch = JudgeCollator(0, num_given=2)(rows)
    >>> batch["input_ids"][:, : batch["input_ids"].shape[1] - batch["continuation_ids"].shape[1]]  # prompts
    ```
    """

    pad_token_id: int
    num_given: int

    def __call__(self, examples: list[dict]) -> dict[str, Tensor]:
        prompts, continuations, first_rows = [], [], {side: [] for side in SIDES}
        for example in examples:
            for side in SIDES:
                first_rows[side].append(len(prompts))
                judgments = example[f"{side}_judgments"] or [[]]
                prompts += [example[f"{side}_prompt_ids"]] * len(judgments)
                continuations += judgments
        prompt_ids, prompt_mask = self._padded(prompts, left=True)
        continuation_ids, continuation_mask = self._padded(continuations, left=False)
        learned = continuation_mask.clone()
        learned[:, : self.num_given] = False
        batch = {
            "input_ids": torch.cat([prompt_ids, continuation_ids], -1),
            "attention_mask": torch.cat([prompt_mask, continuation_mask], -1).long(),
            "continuation_ids": continuation_ids,
            "continuation_mask": learned,
        }
        for side in SIDES:
            batch[f"{side}_rows"] = torch.tensor(first_rows[side])
            batch[f"{side}_targets"] = torch.tensor([example[f"{side}_target"] for example in examples])
        if examples[0].get("margin") is not None:
            batch["margin"] = torch.tensor([float(example["margin"]) for example in examples])
        return batch

    def _padded(self, rows: list[list[int]], left: bool) -> tuple[Tensor, Tensor]:
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad_token_id)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for number, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[number, place] = torch.tensor(row, dtype=torch.long)
            mask[number, place] = True
        return ids, mask
