"""Record of numbers per token while rows are generated, permuted and rolled back."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class TokenTrace:
    """
    Record of `width` numbers for each token that a model has read after the prompt.

    Rows may be permuted or copied between two reads (beams), and the ids may get shorter (assisted decoding
    rejects tokens); `record` detects both from the ids alone. Memory per row and step: `width` numbers, and one token
    id and one parent index after rows were permuted.

    Args:
        prompt_length (`int`): Number of prompt columns, which are not recorded.
    """

    def __init__(self, prompt_length: int):
        self.prompt_length = prompt_length
        self._ids: Tensor | None = None
        self._values: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._parents: list[Tensor | None] = []
        self._first_ids: Tensor | None = None

    @property
    def ids(self) -> Int[Tensor, "rows seq"] | None:
        """All ids that the model has read, in the current order of rows."""
        return self._ids

    @property
    def num_read(self) -> int:
        """Number of completion tokens that the model has read."""
        return len(self._values)

    @property
    def values(self) -> Float[Tensor, "rows read width"]:
        """All values, as long as no rows changed places."""
        return torch.stack(self._values, dim=1)

    @property
    def permuted(self) -> bool:
        """Whether rows were ever permuted."""
        return any(parents is not None for parents in self._parents)

    def record(self, ids: Int[Tensor, "rows seq"], values: Float[Tensor, "rows new width"]) -> None:
        """Add the values of the last `new` tokens of `ids`, which are all tokens read so far."""
        first_new = ids.shape[1] - values.shape[1] - self.prompt_length
        dropped = self._roll_back(first_new)
        parents = self._find_parents(ids, ids.shape[1] - values.shape[1])
        if dropped is not None and self._values:
            parents = dropped if parents is None else dropped[parents]
        if self._first_ids is None:
            self._first_ids = ids[:, : self.prompt_length + 1].clone()
        for step in range(values.shape[1]):
            self._values.append(values[:, step])
            self._parents.append(parents if step == 0 else None)
            # A copy, because a view would keep the ids of every step in memory.
            self._tokens.append(ids[:, self.prompt_length + first_new + step].clone())
        self._ids = ids

    def lookup(
        self, sequences: Int[Tensor, "rows seq"]
    ) -> tuple[Float[Tensor, "rows new width"], Bool[Tensor, "rows new"]]:
        """Return the recorded values of completion tokens of any sequences, and a mask of recorded tokens."""
        steps = sequences.shape[1] - self.prompt_length
        if not self._values or steps <= 0:
            return sequences.new_zeros((len(sequences), max(steps, 0), 1), dtype=torch.float32), sequences.new_zeros(
                (len(sequences), max(steps, 0)), dtype=torch.bool
            )
        read = min(steps, len(self._values))
        values = self._values[0].new_zeros((len(sequences), steps, self._values[0].shape[-1]))
        found = torch.zeros((len(sequences), steps), dtype=torch.bool, device=sequences.device)
        if self._in_order(sequences, read):
            values[:, :read] = torch.stack(self._values[:read], dim=1)
            found[:, :read] = True
            return values, found
        same = (sequences[:, None, : self.prompt_length + 1] == self._first_ids[None]).all(-1)  # (sequence, row)
        for step in range(read):
            if step > 0:
                parents = self._parents[step]
                same = same if parents is None else same[:, parents]
                same = same & (sequences[:, self.prompt_length + step, None] == self._tokens[step][None])
            values[:, step] = self._values[step][same.int().argmax(-1)]
            found[:, step] = same.any(-1)
        return values, found

    def _in_order(self, sequences: Tensor, read: int) -> bool:
        width = self.prompt_length + read
        if self._ids is None or self.permuted or len(sequences) != len(self._ids):
            return False
        return torch.equal(sequences[:, :width], self._ids[:, :width])

    def _roll_back(self, first_new: int) -> Tensor | None:
        """Drop tokens that were taken back, and return how rows had changed places on the way to them."""
        if first_new > len(self._values):
            raise RuntimeError(
                f"The model read token {first_new} of the completion, but only {len(self._values)} tokens before it "
                "were recorded. Enter the context before `generate` starts."
            )
        dropped = None
        for parents in self._parents[first_new:]:
            if parents is not None:
                dropped = parents if dropped is None else dropped[parents]
        del self._values[first_new:], self._tokens[first_new:], self._parents[first_new:]
        return dropped

    def _find_parents(self, ids: Tensor, known: int) -> Tensor | None:
        if not self._values or self._ids is None:
            self._first_ids = None
            return None
        if len(ids) == len(self._ids) and torch.equal(ids[:, :known], self._ids[:, :known]):
            return None
        same = (ids[:, None, :known] == self._ids[None, :, :known]).all(-1)
        if not same.any(-1).all():
            raise RuntimeError(
                "A row continues a sequence that was never read, so its rewards are unknown. "
                "Call `meter.score(sequences)` on a second pass instead."
            )
        return same.int().argmax(-1)
