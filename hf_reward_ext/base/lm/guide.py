"""A frozen model that follows another model's generation."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DummyLayer, DynamicLayer

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.causal_lm import num_embeddings
from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.base.lm.per_thread import PerThread


@dataclass
class Reading:
    """Rows that one thread has read, and their cache."""

    ids: Tensor | None = None
    mask: Tensor | None = None
    last_logits: Tensor | None = None
    cache: Any = None


class CachedGuide:
    """
    Next-token logits of a causal LM for any rows of ids, with a cache that is reused as far as the ids allow.

    Each call compares the new rows with the cached ones. Appended tokens are read, rows that beam search permuted or
    `num_return_sequences` repeated are selected, and tokens that assisted decoding rejected are cropped. Anything
    else, such as a new prompt, is read from the start. There is nothing to reset, and the logits equal those of a
    full forward. Each thread has its own cache.

    Models whose cache cannot do this (linear attention, recurrent states) run without a cache: exact, but slow.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Causal LM in eval mode, whose weights must not change while it guides.
        pad_token_id (`int`, *optional*): Id of leading tokens that count as padding unless a mask is given. Default:
            the model's padding token.

    Attributes:
        is_cacheable (`bool`): Whether rows of the model's cache can be selected and cropped.
        num_tokens_read (`int`): Number of tokens that the model has processed, summed over rows; for measurements.

    Raises:
        ValueError: If the model's forward takes no cache under a known name, or an id is not one of the model.

    Example:
    ```python
    >>> guide = CachedGuide(model)
    >>> guide.next_token_logits(torch.tensor([[5, 6]])).shape
    torch.Size([1, 32])
    ```
    """

    def __init__(self, model, pad_token_id: int | None = None):
        self.model = model
        self.pad_token_id = model.generation_config.pad_token_id if pad_token_id is None else pad_token_id
        self.num_tokens_read = 0
        self.is_cacheable = can_select_rows(new_cache(model))
        if not self.is_cacheable:
            warnings.warn(
                f"The cache of `{type(model).__name__}` cannot follow rows, so this guide reads every prefix from "
                "the start: exact, but slow. Use a guide with attention layers only if speed matters.",
                stacklevel=3,
            )
        self._readings = PerThread(Reading)

    @torch.no_grad()
    def next_token_logits(
        self, ids: Int[Tensor, "rows seq"], mask: Int[Tensor, "rows seq"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """
        Args:
            ids (`torch.Tensor` of shape `(rows, seq)`): Prompts and continuations, padded on the left.
            mask (`torch.Tensor` of shape `(rows, seq)`, *optional*): 0 on padding. Default: inferred from leading
                `pad_token_id`.

        Returns:
            `torch.Tensor` of shape `(rows, vocab)`, float32 or wider, on the guide's device.
        """
        reading = self._readings.value
        ids = ids.to(self.model.device)
        mask = self._mask(ids) if mask is None else mask.to(ids.device)
        if reading.ids is not None and torch.equal(ids, reading.ids) and torch.equal(mask, reading.mask):  # pyright: ignore
            return reading.last_logits  # pyright: ignore[reportReturnType]
        known = self._line_up(reading, ids, mask)
        if known == 0:
            self._check_ids(ids)
        reading.ids = None  # until the forward returns: an error in it leaves the cache in any state
        if known == 0 and reading.cache is not None:
            logits = self._read_distinct(reading, ids, mask)
        else:
            logits = self._run(reading, ids, mask, known)
        if reading.cache is not None:
            # Clones: `generate` may reuse the memory.
            reading.ids, reading.mask, reading.last_logits = ids.clone(), mask.clone(), logits
        return logits

    def _check_ids(self, ids: Tensor) -> None:
        """Refuse ids that the guide has no embedding for, before its forward fails without a reason."""
        rows = num_embeddings(self.model)
        if ids.numel() and int(ids.max()) >= rows:
            raise ValueError(
                f"A guide must have the tokens of the policy, but a `{type(self.model).__name__}` with {rows} "
                f"embeddings got the id {int(ids.max())}. Pass a guide with the tokenizer of the policy."
            )

    def _read_distinct(self, reading: Reading, ids: Tensor, mask: Tensor) -> Tensor:
        """Read each distinct row once: beams and return sequences start as copies of their prompt."""
        both, rows = torch.cat([ids, mask], dim=-1).unique(dim=0, return_inverse=True)
        if len(both) == len(ids):
            return self._run(reading, ids, mask, 0)
        distinct_ids, distinct_mask = both.chunk(2, dim=-1)
        logits = self._run(reading, distinct_ids, distinct_mask, 0)
        reading.cache.batch_select_indices(rows)
        return logits[rows]

    def _run(self, reading: Reading, ids: Tensor, mask: Tensor, known: int) -> Tensor:
        """Return the logits after the last token of rows whose first `known` tokens are in the cache."""
        logits = self._forward(reading, ids, mask, known).logits[:, -1]
        self.num_tokens_read += ids[:, known:].numel()
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _forward(self, reading: Reading, ids: Tensor, mask: Tensor, known: int):
        return run_forward(self.model, ids[:, known:], mask, cache=reading.cache, logits_to_keep=1)

    def forget(self) -> None:
        """Free the cache of this thread; its next call reads the prefix from the start."""
        self._readings.clear()

    def _mask(self, ids: Tensor) -> Tensor:
        if self.pad_token_id is None:
            return torch.ones_like(ids)
        mask = (ids != self.pad_token_id).long().cummax(-1).values
        mask[:, -1] = 1  # a row that is all padding still needs one token to attend to
        return mask

    def _line_up(self, reading: Reading, ids: Tensor, mask: Tensor) -> int:
        """Make the cache hold the first tokens of `ids`, row by row, and return their number."""
        if not self.is_cacheable:
            return 0
        known = self._reuse(reading, ids, mask) if reading.ids is not None else 0
        if known == 0:
            reading.cache = new_cache(self.model)
        return known

    def _reuse(self, reading: Reading, ids: Tensor, mask: Tensor) -> int:
        read, read_mask = reading.ids, reading.mask
        width = min(ids.shape[1] - 1, read.shape[1])  # at least one token has to be read
        if width == 0:
            return 0
        if len(ids) == len(read) and _equal(ids, mask, read, read_mask, width):  # pyright: ignore[reportArgumentType]
            rows, known = None, width
        else:
            rows, known = common_prefix(ids[:, :width], mask[:, :width], read[:, :width], read_mask[:, :width])
        surplus = read.shape[1] - known
        if known == 0 or (surplus > 0 and not _can_crop(reading.cache)):
            return 0
        if surplus > 0:
            reading.cache.crop(-surplus)
        if rows is not None:
            reading.cache.batch_select_indices(rows)
        return known


def _can_crop(cache) -> bool:
    return all(
        type(layer) in (DynamicLayer, DummyLayer) or layer.get_seq_length() < layer.get_max_length()
        for layer in cache.layers
    )


def _equal(ids: Tensor, mask: Tensor, read: Tensor, read_mask: Tensor, width: int) -> bool:
    return torch.equal(ids[:, :width], read[:, :width]) and torch.equal(mask[:, :width], read_mask[:, :width])


def common_prefix(ids: Tensor, mask: Tensor, read: Tensor, read_mask: Tensor) -> tuple[Tensor, int]:
    """Return the cached row with the longest common prefix for each row, and the prefix length of all rows."""
    differs = (ids[:, None] != read[None]) | (mask[:, None] != read_mask[None])
    agree = torch.where(differs.any(-1), differs.int().argmax(-1), ids.shape[1])
    longest, rows = agree.max(-1)
    return rows, int(longest.min())
