"""Collator of pairs for stage 1; all prompts end in the same column, so one slice of the logits covers all rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_reward_ext.base.preference.pair_collator import margins_of
from hf_reward_ext.fast_slow.train.preference_pairs import SIDES


@dataclass
class JudgeCollator:
    """
    Collator of stage 1.

    Each judgment is a row, and so is each side without a judgment. Prompts are padded on the left, continuations on the
    right.

    Args:
        pad_token_id (`int`): Id that fills rows, which is masked.
        num_given (`int`): Number of tokens of first verdict and analysis prefix, which have no loss.
        pad_to_multiple_of (`int`, *optional*): Number that divides the padded length.

    Example:
    ```python
    >>> batch = JudgeCollator(0, num_given=2)(rows)
    >>> batch["input_ids"][:, : batch["input_ids"].shape[1] - batch["continuation_ids"].shape[1]]  # prompts
    ```
    """

    pad_token_id: int
    num_given: int
    pad_to_multiple_of: int | None = None

    def __call__(self, examples: list[dict]) -> dict[str, Tensor]:
        prompts, continuations, pairs, first_rows = [], [], [], {side: [] for side in SIDES}
        for number, example in enumerate(examples):
            for side in SIDES:
                first_rows[side].append(len(prompts))
                judgments = example[f"{side}_judgments"] or [[]]
                prompts += [example[f"{side}_prompt_ids"]] * len(judgments)
                continuations += judgments
                pairs += [number] * len(judgments)
        continuation_ids, continuation_mask = self._padded(continuations, left=False)
        multiple = self.pad_to_multiple_of or 1
        surplus = -(max(map(len, prompts)) + continuation_ids.shape[1]) % multiple
        prompt_ids, prompt_mask = self._padded(prompts, left=True, surplus=surplus)
        learned = continuation_mask.clone()
        learned[:, : self.num_given] = False
        batch = {
            # First, because the trainer counts the rows of the first tensor.
            **{f"{side}_rows": torch.tensor(first_rows[side]) for side in SIDES},
            "pair": torch.tensor(pairs),
            "input_ids": torch.cat([prompt_ids, continuation_ids], -1),
            "attention_mask": torch.cat([prompt_mask, continuation_mask], -1).long(),
            "continuation_ids": continuation_ids,
            "continuation_mask": learned,
        }
        for side in SIDES:
            batch[f"{side}_targets"] = torch.tensor([example[f"{side}_target"] for example in examples])
        margins = margins_of(examples)
        return batch if margins is None else {**batch, "margin": margins}

    def _padded(self, rows: list[list[int]], left: bool, surplus: int = 0) -> tuple[Tensor, Tensor]:
        width = max(map(len, rows)) + surplus
        ids = torch.full((len(rows), width), self.pad_token_id)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for number, row in enumerate(rows):
            columns = slice(width - len(row), width) if left else slice(0, len(row))
            ids[number, columns] = torch.tensor(row, dtype=torch.long)
            mask[number, columns] = True
        return ids, mask
