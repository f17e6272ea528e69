"""Cache of the policy's features of every training token, in memory or on disk."""

import hashlib
import json
import os
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor
from transformers.utils.logging import tqdm

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig

_SAVE_EVERY = 20  # number of batches between two updates of the progress file


class FeatureCache:
    """
    Cache of the features `(tokens, features)` of completion tokens, with the offset of each completion.

    Args:
        groups (`Dataset`): Rows `{prompt_ids, completion_ids, labels}`.
        config ([`ELHSRModelConfig`]): Configuration that selects the features.
        policy (`PreTrainedModel` or `PeftModel`): Policy whose features are cached.
        folder (`Path`, *optional*): Folder of a memory-mapped cache in bfloat16, from which an interrupted run resumes.
            Default: a cache in memory, in float32.

    Example:
    ```python
    >>> cache = FeatureCache(groups, head.config, policy)
    >>> cache.fill(batch_size=16)
    >>> cache.completion(0, 2)  # third candidate of the first prompt, (tokens, features)
    ```
    """

    def __init__(self, groups: Dataset, config: ELHSRModelConfig, policy, folder: Path | None = None):
        self.config = config
        self.policy = policy
        self._prompts = groups["prompt_ids"]
        self._completions = [(row, ids) for row, group in enumerate(groups["completion_ids"]) for ids in group]
        ends = torch.tensor([0] + [len(ids) for _, ids in self._completions]).cumsum(0)
        self._spans = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
        firsts = torch.tensor([0] + [len(group) for group in groups["completion_ids"]]).cumsum(0)
        self._first = firsts.tolist()
        shape = (int(ends[-1]), config.num_features)
        if folder is None:
            self.features, self._note = torch.empty(shape), None
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._fingerprint()}.bin"
        self._note = path.with_suffix(".json")
        if not path.exists():
            self._note.unlink(missing_ok=True)
            _reserve(path, shape[0] * shape[1] * torch.bfloat16.itemsize)
        self.features = torch.from_file(str(path), shared=True, size=shape[0] * shape[1], dtype=torch.bfloat16).view(
            shape
        )

    def completion(self, row: int, candidate: int) -> Tensor:
        """Return the features `(tokens, features)` of one candidate of one prompt."""
        start, end = self._spans[self._first[row] + candidate]
        return self.features[start:end]

    def fill(self, batch_size: int, show_progress: bool = True) -> None:
        """
        Run the policy once over every completion that is not cached yet.

        Raises:
            ValueError: If the features of a completion have NaN or infinity.
        """
        done = (
            json.loads(self._note.read_text(encoding="utf-8"))["completions"]
            if self._note and self._note.exists()
            else 0
        )
        # Sorted by length to save padding, in a fixed order, so that a second run can resume.
        order = sorted(range(len(self._completions)), key=self._length)
        was_training = self.policy.training
        self.policy.eval()
        progress = tqdm(total=len(order), initial=done, desc="features", disable=not show_progress)
        for number, start in enumerate(range(done, len(order), batch_size), start=1):
            batch = order[start : start + batch_size]
            self._fill_batch(batch)
            progress.update(len(batch))
            if number % _SAVE_EVERY == 0:
                self._save_progress(start + len(batch))
        progress.close()
        self._save_progress(len(order))
        self.policy.train(was_training)

    def mean_and_scale(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of every feature over all tokens; 1 as deviation of constant ones."""
        total = torch.zeros(self.config.num_features, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for block in self.features.split(4096):
            total += block.double().sum(0)
            squares += block.double().square().sum(0)
        mean = total / len(self.features)
        scale = (squares / len(self.features) - mean**2).clamp(min=0).sqrt()
        return mean.float(), torch.where(scale > 1e-6, scale, 1.0).float()

    def _length(self, index: int) -> int:
        row, ids = self._completions[index]
        return len(self._prompts[row]) + len(ids)

    def _fill_batch(self, batch: list[int]) -> None:
        texts = [self._prompts[row] + ids for row, ids in (self._completions[index] for index in batch)]
        width = max(map(len, texts))
        input_ids = torch.tensor([text + [0] * (width - len(text)) for text in texts], device=self.policy.device)
        attention_mask = torch.tensor(
            [[1] * len(text) + [0] * (width - len(text)) for text in texts], device=self.policy.device
        )
        features = teacher_forced_features(self.policy, self.config, input_ids, attention_mask)
        for position, index in enumerate(batch):
            row, ids = self._completions[index]
            own = features[position, len(self._prompts[row]) : len(texts[position])]
            if not own.isfinite().all():
                raise ValueError(
                    f"The policy's features of candidate {index - self._first[row]} of prompt {row} hold NaN or "
                    "infinity, so no head can be trained on them. Load the policy in bfloat16 or float32."
                )
            start, end = self._spans[index]
            self.features[start:end] = own.to(self.features)

    def _save_progress(self, completions: int) -> None:
        if self._note is None:
            return
        replace_text(self._note, json.dumps({"completions": completions}))

    def _fingerprint(self) -> str:
        described = {name: getattr(self.config, name) for name in ("layers", "features", "top_logprobs", "hidden_size")}
        weights = [[name, *_describe(weight.detach())] for name, weight in self.policy.named_parameters()]
        text = json.dumps([described, weights, self._prompts[:], self._completions])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _describe(weight: Tensor) -> list:
    """Return type, shape and sum of a weight, or of the tensors of a quantized weight."""
    described = [str(weight.dtype), list(weight.shape)]
    if hasattr(weight, "__tensor_flatten__"):
        names, _ = weight.__tensor_flatten__()  # pyright: ignore[reportAttributeAccessIssue]
        return [*described, [_describe(getattr(weight, name)) for name in names]]
    if weight.is_meta:  # offloaded
        return described
    try:
        return [*described, float(weight.sum(dtype=torch.float64))]
    except (NotImplementedError, RuntimeError):  # types that cannot be added up, of fewer than 8 bits
        return described


def _reserve(path: Path, size: int) -> None:
    """Allocate the space of a file; otherwise a full disk would kill the process when a mapped page is written."""
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"The feature cache needs {size / 2**20:,.0f} MiB in '{path.parent}', and the disk does not have them "
            f"({error.strerror}). Free room, set `feature_cache_dir`, or use `feature_cache='none'`.",
        ) from error
