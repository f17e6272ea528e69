"""A conditioned guide that follows a generation whose rows have their own weights."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.guide import CachedGuide, Reading
from hf_reward_ext.genarm.conditioning import same_weights


class WeightedGuide(CachedGuide):
    """
    A [`CachedGuide`] that reads each row under its weights of the objectives.

    Rows of equal ids and other weights have other keys and values. So the mask that is compared with the cache has the
    number of the row's weights on every token; the model gets the plain mask.

    Args:
        model (`PeftModel`): Conditioned guide.
        pad_token_id (`int`, *optional*): As for [`CachedGuide`].
        weights (`torch.Tensor` of shape `(K,)` or `(B, K)`): Weights, which apply to all beams and return sequences of
            a prompt.

    Example:
    ```python
    >>> WeightedGuide(guide, weights=torch.tensor([0.3, 0.7])).next_token_logits(torch.tensor([[5, 6]])).shape
    torch.Size([1, 32])
    ```
    """

    def __init__(self, model, pad_token_id: int | None = None, *, weights: Float[Tensor, "*prompts objectives"]):
        super().__init__(model, pad_token_id)
        self._num_used = 0
        self.weights = weights

    @property
    def weights(self) -> Float[Tensor, "*prompts objectives"]:
        return self._weights

    @weights.setter
    def weights(self, weights: Float[Tensor, "*prompts objectives"]) -> None:
        distinct, numbers = weights.to(self.model.device).view(-1, weights.shape[-1]).unique(dim=0, return_inverse=True)
        # Numbers are never used twice, so that other weights cannot continue an older reading.
        self._first = self._num_used + 1
        self._num_used += len(distinct)
        self._weights, self._distinct, self._numbers = weights, distinct, numbers + self._first
        self._renew()

    def _renew(self) -> None:
        """Make new tensors of weights, so that layers compute from them again."""
        self._shared = self._distinct[0].clone()
        self._of_rows: tuple[Tensor, Tensor] | None = None  # numbers of the rows of the last forward, and their weights

    def next_token_logits(
        self, ids: Int[Tensor, "rows seq"], mask: Int[Tensor, "rows seq"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        rows, prompts = len(ids), len(self._numbers)
        if rows % prompts:
            raise ValueError(
                f"`weights` must have one row of weights per prompt, got {prompts} for {rows} generated rows, which is "
                "no multiple of it. Use one row per prompt."
            )
        ids = ids.to(self.model.device)
        mask = self._mask(ids) if mask is None else mask.to(ids)
        numbers = self._numbers if rows == prompts else self._numbers.repeat_interleave(rows // prompts)
        return super().next_token_logits(ids, mask * numbers[:, None])

    def forget(self) -> None:
        super().forget()
        self._renew()  # a guide may be trained between two calls

    def _forward(self, reading: Reading, ids: Tensor, mask: Tensor, known: int):
        weights = self._shared if len(self._distinct) == 1 else self._weights_of_rows(mask.amax(-1))
        with same_weights(weights):
            return super()._forward(reading, ids, mask.clamp(max=1), known)

    def _weights_of_rows(self, numbers: Int[Tensor, " rows"]) -> Float[Tensor, "rows objectives"]:
        of_rows = self._of_rows
        if of_rows is None or not torch.equal(of_rows[0], numbers):
            of_rows = self._of_rows = numbers, self._distinct[numbers - self._first]
        return of_rows[1]
