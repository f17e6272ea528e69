"""A frozen model that reads along with somebody else's generation."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from hf_reward_ext.base.lm.cache import can_select_rows
from hf_reward_ext.base.lm.forward import last_logits_only


class CachedGuide:
    """
    Next-token logits of a causal LM for any rows of ids, with a cache that finds out by itself what still fits.

    At each call the new rows are compared with those it has read. Appended tokens are read on; rows that beams permuted
    or `num_return_sequences` repeated are selected; tokens that assisted decoding took back are cropped; anything else,
    a new prompt say, is read afresh. So there is nothing to reset, and every answer equals that of a full forward.

    Models whose cache cannot do this (linear attention, recurrent states) are run without one, with one warning.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A causal LM in eval mode; frozen while it guides.
        pad_token_id (`int`, *optional*): Leading tokens with this id are padding, unless a mask is given. Default: the
            model's own.

    Attributes:
        num_tokens_read (`int`): Row-tokens that the model has run over so far, for measurements.

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
        self._read: Tensor | None = None
        self._read_mask: Tensor | None = None
        self._cache: DynamicCache | None = None
        self._last_logits: Tensor | None = None
        self._cacheable = can_select_rows(self._new_cache())
        if not self._cacheable:
            warnings.warn(
                f"The cache of `{type(model).__name__}` cannot follow rows, so this guide reads every prefix afresh: "
                "right, but slow. Use a guide with attention layers only if speed matters.",
                stacklevel=3,
            )

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.config.get_text_config(decoder=True))

    @torch.no_grad()
    def next_token_logits(
        self, ids: Int[Tensor, "rows seq"], mask: Int[Tensor, "rows seq"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """
        Args:
            ids (`torch.Tensor` of shape `(rows, seq)`): Everything so far, padded on the left.
            mask (`torch.Tensor` of shape `(rows, seq)`, *optional*): 0 on padding. Default: inferred from leading
                `pad_token_id`.

        Returns:
            `torch.Tensor` of shape `(rows, vocab)`, float32 or wider, on the guide's device.
        """
        ids = ids.to(self.model.device)
        mask = self._mask(ids) if mask is None else mask.to(ids.device)
        if self._read is not None and torch.equal(ids, self._read) and torch.equal(mask, self._read_mask):  # pyright: ignore
            return self._last_logits  # pyright: ignore[reportReturnType]
        known = self._line_up(ids, mask)
        self._read = None  # until the forward has come back: an error in it leaves the cache anywhere
        if known == 0 and self._cache is not None:
            logits = self._read_distinct(ids, mask)
        else:
            logits = self._run(ids, mask, known)
        if self._cache is not None:
            # Clones: `generate` may write on in the same memory.
            self._read, self._read_mask, self._last_logits = ids.clone(), mask.clone(), logits
        return logits

    def _read_distinct(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Beams and return sequences begin as copies of their prompt: read it once."""
        both, rows = torch.cat([ids, mask], dim=-1).unique(dim=0, return_inverse=True)
        if len(both) == len(ids):
            return self._run(ids, mask, 0)
        logits = self._run(*both.chunk(2, dim=-1), 0)  # pyright: ignore[reportCallIssue]
        self._cache.batch_select_indices(rows)
        return logits[rows]

    def _run(self, ids: Tensor, mask: Tensor, known: int) -> Tensor:
        """Logits behind the last token, of which `known` leading ones are in the cache."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self.model(
            input_ids=ids[:, known:],
            attention_mask=mask,
            position_ids=positions[:, known:],
            past_key_values=self._cache,
            use_cache=self._cache is not None,
            **last_logits_only(self.model, 1, ids.shape[1] - known),
        )
        self.num_tokens_read += ids[:, known:].numel()
        logits = output.logits[:, -1]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forget(self) -> None:
        """Frees the cache; the next call reads afresh."""
        self._read = self._read_mask = self._cache = self._last_logits = None

    def _mask(self, ids: Tensor) -> Tensor:
        if self.pad_token_id is None:
            return torch.ones_like(ids)
        mask = (ids != self.pad_token_id).long().cummax(-1).values
        mask[:, -1] = 1  # a row of nothing but padding still needs one token to look at
        return mask

    def _line_up(self, ids: Tensor, mask: Tensor) -> int:
        """Makes the cache hold the first tokens of `ids`, row by row, and returns how many."""
        if not self._cacheable:
            return 0
        known = self._reuse(ids, mask) if self._read is not None else 0
        if known == 0:
            self._cache = self._new_cache()
        return known

    def _reuse(self, ids: Tensor, mask: Tensor) -> int:
        read, read_mask = self._read, self._read_mask
        width = min(ids.shape[1] - 1, read.shape[1])  # at least one token has to be read
        if width == 0:
            return 0
        if len(ids) == len(read) and _equal(ids, mask, read, read_mask, width):  # pyright: ignore[reportArgumentType]
            rows, known = None, width
        else:
            rows, known = _common_prefix(ids[:, :width], mask[:, :width], read[:, :width], read_mask[:, :width])
        surplus = read.shape[1] - known
        if known == 0 or (surplus > 0 and not self._can_crop()):
            return 0
        if surplus > 0:
            self._cache.crop(-surplus)
        if rows is not None:
            self._cache.batch_select_indices(rows)
        return known

    def _can_crop(self) -> bool:
        return all(
            type(layer) is DynamicLayer or layer.get_seq_length() < layer.get_max_length()  # pyright: ignore
            for layer in self._cache.layers
        )


def _equal(ids: Tensor, mask: Tensor, read: Tensor, read_mask: Tensor, width: int) -> bool:
    return torch.equal(ids[:, :width], read[:, :width]) and torch.equal(mask[:, :width], read_mask[:, :width])


def _common_prefix(ids: Tensor, mask: Tensor, read: Tensor, read_mask: Tensor) -> tuple[Tensor, int]:
    """For each row the row read before that agrees longest, and how many leading tokens agree in all of them."""
    differs = (ids[:, None] != read[None]) | (mask[:, None] != read_mask[None])
    agree = torch.where(differs.any(-1), differs.int().argmax(-1), ids.shape[1])
    longest, rows = agree.max(-1)
    return rows, int(longest.min())
