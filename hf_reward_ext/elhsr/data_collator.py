"""Batches of prompts with all their candidates."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hf_reward_ext.elhsr.feature_cache import FeatureCache


class GroupCollator:
    """
    Turns rows `{cache, row, labels}` or `{prompt_ids, completion_ids, labels}` into one flat batch of candidates.

    Args:
        caches (`dict` of `str` to [`FeatureCache`]): Where the features of cached rows lie, by the rows' `cache`.
        compute_features (`callable`): `(input_ids, attention_mask) -> features` for rows without a cache.
    """

    def __init__(self, caches: dict[str, FeatureCache], compute_features: Callable[[Tensor, Tensor], Tensor]):
        self.caches = caches
        self.compute_features = compute_features

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """
        Returns:
            `features` `(candidates, seq, features)` float32, `completion_mask` `(candidates, seq)`, `labels` and
            `groups` `(candidates,)`.
        """
        batch = self._cached(rows) if "cache" in rows[0] else self._computed(rows)
        sizes = [len(row["labels"]) for row in rows]
        batch["labels"] = torch.tensor([label for row in rows for label in row["labels"]], dtype=torch.float32)
        batch["groups"] = torch.arange(len(rows)).repeat_interleave(torch.tensor(sizes))
        return batch

    def _cached(self, rows: list[dict]) -> dict[str, Tensor]:
        features = [
            self.caches[row["cache"]].completion(row["row"], candidate).float()
            for row in rows
            for candidate in range(len(row["labels"]))
        ]
        ones = [torch.ones(len(part), dtype=torch.bool) for part in features]
        return {
            "features": pad_sequence(features, batch_first=True),
            "completion_mask": pad_sequence(ones, batch_first=True),
        }

    def _computed(self, rows: list[dict]) -> dict[str, Tensor]:
        pairs = [(row["prompt_ids"], completion) for row in rows for completion in row["completion_ids"]]
        texts = [torch.tensor(prompt + completion) for prompt, completion in pairs]
        masks = [torch.tensor([False] * len(prompt) + [True] * len(completion)) for prompt, completion in pairs]
        attended = [torch.ones(len(text), dtype=torch.long) for text in texts]
        input_ids, attention_mask = (
            pad_sequence(texts, batch_first=True),
            pad_sequence(attended, batch_first=True),
        )
        return {
            "features": self.compute_features(input_ids, attention_mask),
            "completion_mask": pad_sequence(masks, batch_first=True),
        }
