"""A frozen model that follows another model's generation."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer

from hf_reward_ext.base.lm.cache import can_select_rows, new_cache
from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.base.lm.per_thread import PerThread


@dataclass
class _Reading:
    """What one thread's rows have been read, and the cache that holds it."""

    ids: Tensor | None = None
    mask: Tensor | None = None
    last_logits: Tensor | None = None
    cache: DynamicCache | None = None


class CachedGuide:
    """
    Next-token logits of a causal LM for any rows of ids, with a cache that is reused as far as the ids allow.

    Each call compares the new rows with those read before. Appended tokens are read; rows that beams permuted or
    `num_return_sequences` repeated are selected; tokens that assisted decoding took back are cropped; anything else, a
    new prompt for example, is read afresh. So there is nothing to reset, and every answer equals that of a full
    forward. Every thread has a cache of its own.

    Models whose cache cannot do this (linear attention, recurrent states) run without one: exact, but slow.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A causal LM in eval mode; frozen while it guides.
        pad_token_id (`int`, *optional*): Leading tokens with this id are padding, unless a mask is given. Default: the
            model's own.

    Attributes:
        is_cacheable (`bool`): Whether the model's cache can follow rows.
        num_tokens_read (`int`): Number of row-tokens that the model has run over, for measurements.

    Raises:
        ValueError: If the model's forward takes no cache under a known name.

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
                f"The cache of `{type(model).__name__}` cannot follow rows, so this guide reads every prefix afresh: "
                "exact, but slow. Use a guide with attention layers only if speed matters.",
                stacklevel=3,
            )
        self._readings = PerThread(_Reading)

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
        reading.ids = None  # until the forward has returned: an error in it leaves the cache in any state
        if known == 0 and reading.cache is not None:
            logits = self._read_distinct(reading, ids, mask)
        else:
            logits = self._run(reading, ids, mask, known)
        if reading.cache is not None:
            # Clones: `generate` may reuse the memory.
            reading.ids, reading.mask, reading.last_logits = ids.clone(), mask.clone(), logits
        return logits

    def _read_distinct(self, reading: _Reading, ids: Tensor, mask: Tensor) -> Tensor:
        """Reads each distinct row once: beams and return sequences begin as copies of their prompt."""
        both, rows = torch.cat([ids, mask], dim=-1).unique(dim=0, return_inverse=True)
        if len(both) == len(ids):
            return self._run(reading, ids, mask, 0)
        distinct_ids, distinct_mask = both.chunk(2, dim=-1)
        logits = self._run(reading, distinct_ids, distinct_mask, 0)
        reading.cache.batch_select_indices(rows)
        return logits[rows]

    def _run(self, reading: _Reading, ids: Tensor, mask: Tensor, known: int) -> Tensor:
        """Logits after the last token, of which `known` leading ones are in the cache."""
        output = run_forward(self.model, ids[:, known:], mask, cache=reading.cache, logits_to_keep=1)
        self.num_tokens_read += ids[:, known:].numel()
        logits = output.logits[:, -1]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forget(self) -> None:
        """Frees the cache of this thread; its next call reads afresh."""
        self._readings.clear()

    def _mask(self, ids: Tensor) -> Tensor:
        if self.pad_token_id is None:
            return torch.ones_like(ids)
        mask = (ids != self.pad_token_id).long().cummax(-1).values
        mask[:, -1] = 1  # a row of nothing but padding still needs one token to attend to
        return mask

    def _line_up(self, reading: _Reading, ids: Tensor, mask: Tensor) -> int:
        """Makes the cache hold the first tokens of `ids`, row by row, and returns how many."""
        if not self.is_cacheable:
            return 0
        known = self._reuse(reading, ids, mask) if reading.ids is not None else 0
        if known == 0:
            reading.cache = new_cache(self.model)
        return known

    def _reuse(self, reading: _Reading, ids: Tensor, mask: Tensor) -> int:
        read, read_mask = reading.ids, reading.mask
        width = min(ids.shape[1] - 1, read.shape[1])  # at least one token has to be read
        if width == 0:
            return 0
        if len(ids) == len(read) and _equal(ids, mask, read, read_mask, width):  # pyright: ignore[reportArgumentType]
            rows, known = None, width
        else:
            rows, known = _common_prefix(ids[:, :width], mask[:, :width], read[:, :width], read_mask[:, :width])
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


def _common_prefix(ids: Tensor, mask: Tensor, read: Tensor, read_mask: Tensor) -> tuple[Tensor, int]:
    """For each row the row read before that agrees longest, and how many leading tokens agree in all of them."""
    differs = (ids[:, None] != read[None]) | (mask[:, None] != read_mask[None])
    agree = torch.where(differs.any(-1), differs.int().argmax(-1), ids.shape[1])
    longest, rows = agree.max(-1)
    return rows, int(longest.min())
