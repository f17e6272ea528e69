"""Collator of prompts with all their candidates."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hf_reward_ext.base.preference.step_rows import pad_steps
from hf_reward_ext.elhsr.feature_cache import FeatureCache


class GroupCollator:
    """
    Collator of rows `{cache, row, labels}` or `{prompt_ids, completion_ids, labels}` into one batch of candidates.

    Rows with `step_ends` have a single candidate, whose steps are labeled.

    Args:
        caches (`dict` of `str` to [`FeatureCache`]): Caches by the name in the column `cache`.
        compute_features (`callable`): Function `(input_ids, attention_mask) -> features` for rows without a cache.
        pad_to_multiple_of (`int`, *optional*): Number that divides the padded length.
    """

    def __init__(
        self,
        caches: dict[str, FeatureCache],
        compute_features: Callable[[Tensor, Tensor], Tensor],
        pad_to_multiple_of: int | None = None,
    ):
        self.caches = caches
        self.compute_features = compute_features
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """
        Collate rows.

        Returns:
            `labels` `(prompts, width)`, NaN where a prompt has fewer candidates (`width` is that of the rows, or the
            most candidates in the batch), and of all candidates in that order `features` `(candidates, seq, features)`
            float32 and `completion_mask` `(candidates, seq)`. Rows of steps have `step_ends` `(rows, width)` too, the
            positions in `features`, -1 where a row has fewer steps.
        """
        batch = self._cached(rows) if "cache" in rows[0] else self._computed(rows)
        if "step_ends" in rows[0]:
            starts = [0 if "cache" in row else len(row["prompt_ids"]) for row in rows]
            return {**pad_steps(rows, starts), **batch}
        width = max(row.get("width") or len(row["labels"]) for row in rows)
        labels = [[*row["labels"], *[torch.nan] * (width - len(row["labels"]))] for row in rows]
        # First, because the trainer counts the rows of the first tensor.
        return {"labels": torch.tensor(labels), **batch}

    def _cached(self, rows: list[dict]) -> dict[str, Tensor]:
        features = [
            self.caches[row["cache"]].completion(row["row"], candidate).float()
            for row in rows
            for candidate in range(1 if "step_ends" in row else len(row["labels"]))
        ]
        ones = [torch.ones(len(part), dtype=torch.bool) for part in features]
        return {"features": self._padded(features), "completion_mask": self._padded(ones)}

    def _computed(self, rows: list[dict]) -> dict[str, Tensor]:
        pairs = [(row["prompt_ids"], completion) for row in rows for completion in row["completion_ids"]]
        texts = [torch.tensor(prompt + completion) for prompt, completion in pairs]
        masks = [torch.tensor([False] * len(prompt) + [True] * len(completion)) for prompt, completion in pairs]
        attended = [torch.ones(len(text), dtype=torch.long) for text in texts]
        features = self.compute_features(self._padded(texts), self._padded(attended))
        return {"features": features, "completion_mask": self._padded(masks)}

    def _padded(self, rows: list[Tensor]) -> Tensor:
        padded = pad_sequence(rows, batch_first=True)
        surplus = -padded.shape[1] % (self.pad_to_multiple_of or 1)
        return torch.nn.functional.pad(padded, [0, 0] * (padded.dim() - 2) + [0, surplus])
