"""A frozen model that follows the rows of an engine, which start, grow and end at any step."""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from hf_reward_ext.base.lm.cache import drop_columns, has_full_length, join_rows, new_cache
from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.base.lm.tokens import left_padded


class RaggedGuide:
    """
    Next-token logits of a causal LM for named rows, with one cache for all rows.

    Rows that grew by one token since the last call are read in one forward. New rows are read together, equal ones
    once; rows that are missing are forgotten; a row that changed in another way is read from the start. The logits
    equal those of a full forward of each row.

    The columns of a row need not be adjacent: where only other rows grew, the mask hides a filler. Models with other
    caches than those of full length (sliding windows, recurrent states) read every row from the start: exact, but slow.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Causal LM in eval mode, whose weights must not change.

    Attributes:
        num_tokens_read (`int`): Number of tokens that the model has processed, summed over rows; for measurements.

    Example:
    ```python
    >>> guide = RaggedGuide(model)
    >>> guide.next_token_logits({"a": [5, 6], "b": [7]}).shape
    torch.Size([2, 32])
    ```
    """

    def __init__(self, model: Any):
        self.model = model
        self.num_tokens_read = 0
        self._is_cacheable = has_full_length(new_cache(model))
        if not self._is_cacheable:
            warnings.warn(
                f"The cache of `{type(model).__name__}` cannot follow rows of an engine, so this guide reads every row "
                "from the start: exact, but slow. Use a guide with full attention only if speed matters.",
                stacklevel=3,
            )
        self._forget()

    @torch.no_grad()
    def next_token_logits(self, rows: Mapping[Hashable, Sequence[int]]) -> Float[Tensor, "rows vocab"]:
        """
        Args:
            rows (`dict` of lists of ids): All rows of this step by name, each with at least one token. A name belongs
                to one text, which grows from call to call.

        Returns:
            `torch.Tensor` of shape `(rows, vocab)`, float32 or wider, in the order of `rows`.
        """
        texts = {name: list(ids) for name, ids in rows.items()}
        if not self._is_cacheable:
            return self._read(list(texts.values()), None)[0]
        try:
            self._keep(texts)
            self._grow(texts)
            self._add({name: ids for name, ids in texts.items() if name not in self._texts})
        except BaseException:
            self._forget()  # an error in a forward leaves the cache in any state
            raise
        places = {name: place for place, name in enumerate(self._texts)}
        return self._logits[[places[name] for name in texts]]

    def _forget(self) -> None:
        self._texts: dict[Hashable, list[int]] = {}
        self._cache: Any = None
        self._mask: Any = None
        self._logits: Any = None

    def _keep(self, texts: dict[Hashable, list[int]]) -> None:
        """Keep the rows that did not change, or grew by one token."""
        kept = [
            place
            for place, (name, known) in enumerate(self._texts.items())
            if name in texts and (texts[name] == known or texts[name][:-1] == known)
        ]
        if len(kept) == len(self._texts):
            return
        if not kept:
            self._forget()
            return
        names = list(self._texts)
        self._texts = {names[place]: self._texts[names[place]] for place in kept}
        index = torch.tensor(kept, device=self.model.device)
        self._cache.batch_select_indices(index)
        self._mask, self._logits = self._mask[index], self._logits[index]
        surplus = int(self._mask.any(0).int().argmax())  # columns before the first token of every row
        drop_columns(self._cache, surplus)
        self._mask = self._mask[:, surplus:]

    def _grow(self, texts: dict[Hashable, list[int]]) -> None:
        """Read the last token of the rows that grew."""
        has_grown = [len(texts[name]) > len(known) for name, known in self._texts.items()]
        if not any(has_grown):
            return
        new = torch.tensor(has_grown, device=self.model.device)[:, None]
        last = torch.tensor([texts[name][-1:] for name in self._texts], device=self.model.device)
        self._mask = torch.cat([self._mask, new.long()], dim=-1)
        logits = self._forward(last, self._mask, self._cache)
        self._logits = torch.where(new, logits, self._logits)
        self._texts = {name: texts[name] for name in self._texts}
        self.num_tokens_read += len(last)

    def _add(self, texts: dict[Hashable, list[int]]) -> None:
        """Read new rows, and join them to the others."""
        if not texts:
            return
        cache: Any = new_cache(self.model)
        logits, mask = self._read(list(texts.values()), cache)
        if self._cache is None:
            self._cache, self._mask, self._logits = cache, mask, logits
        else:
            join_rows(self._cache, cache)
            width = max(self._mask.shape[1], mask.shape[1])
            self._mask = torch.cat([pad(one, (width - one.shape[1], 0)) for one in (self._mask, mask)])
            self._logits = torch.cat([self._logits, logits])
        self._texts |= texts

    def _read(self, texts: list[list[int]], cache: Any) -> tuple[Tensor, Tensor]:
        """Read texts from the start, equal ones once, and return their logits and mask."""
        distinct = list(dict.fromkeys(map(tuple, texts)))
        ids, mask = left_padded(distinct, 0, self.model.device)
        logits = self._forward(ids, mask, cache)
        self.num_tokens_read += ids.numel()
        if len(distinct) == len(texts):
            return logits, mask
        places = {text: place for place, text in enumerate(distinct)}
        rows = torch.tensor([places[tuple(text)] for text in texts], device=ids.device)
        if cache is not None:
            cache.batch_select_indices(rows)
        return logits[rows], mask[rows]

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        logits = run_forward(self.model, ids, mask, cache=cache, logits_to_keep=1).logits[:, -1]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
