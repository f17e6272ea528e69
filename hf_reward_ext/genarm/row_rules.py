"""Logits processors and stopping criteria of `generate`, for rows of different lengths."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor, StoppingCriteriaList

from hf_reward_ext.base.lm.generate_hook import WatchesGenerate

# Processors of transformers that treat each row alone and keep no state between calls.
_BY_ROW = {
    "EpsilonLogitsWarper", "EtaLogitsWarper", "ExponentialDecayLengthPenalty", "ForcedBOSTokenLogitsProcessor",
    "ForcedEOSTokenLogitsProcessor", "InfNanRemoveLogitsProcessor", "LogitNormalization", "MinLengthLogitsProcessor",
    "MinNewTokensLengthLogitsProcessor", "MinPLogitsWarper", "NoBadWordsLogitsProcessor",
    "NoRepeatNGramLogitsProcessor", "RepetitionPenaltyLogitsProcessor", "SequenceBiasLogitsProcessor",
    "SuppressTokensAtBeginLogitsProcessor", "SuppressTokensLogitsProcessor", "TemperatureLogitsWarper",
    "TopHLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "TypicalLogitsWarper", "WatermarkLogitsProcessor",
}  # fmt: skip


class RowRules:
    """
    Processors and criteria that see each row as plain `generate` would show it: its prompt and its own tokens.

    They are called with one row at a time, since rows that keep different numbers of drafts have different lengths.

    Args:
        processors (`LogitsProcessorList`): Logits processors, as prepared by `generate`.
        criteria (`StoppingCriteriaList`): Stopping criteria, as prepared by `generate`.
        num_rows (`int`): Number of rows.

    Raises:
        ValueError: If a processor of transformers or of this library has a state for each row of a batch.
    """

    def __init__(self, processors: LogitsProcessorList, criteria: StoppingCriteriaList, num_rows: int):
        for one in processors:
            is_foreign = type(one).__module__.startswith("transformers.") and type(one).__name__ not in _BY_ROW
            if is_foreign or isinstance(one, WatchesGenerate):
                raise ValueError(
                    f"`logits_processor` must treat each row alone and without a state, got `{type(one).__name__}`: "
                    "rows of drafts have different lengths. Leave it out, or leave `custom_generate` out."
                )
        self._by_row = [LogitsProcessorList(_of_row(one, row) for one in processors) for row in range(num_rows)]
        self._criteria = criteria
        self.changes_scores = len(processors) > 0

    def scores(
        self, rows: Sequence[int], texts: Sequence[Tensor], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """Return the processed scores of the token that follows the text of each row."""
        if not self.changes_scores:
            return scores
        processed = [
            self._by_row[row](text[None], own[None])  # pyright: ignore[reportArgumentType]
            for row, text, own in zip(rows, texts, scores, strict=True)
        ]
        return torch.cat(processed)

    def first_end(self, text: Int[Tensor, " seq"], start: int) -> int | None:
        """Return the length at which a text ends, counted from `start` tokens on; `None` if it goes on."""
        for length in range(start + 1, len(text) + 1):
            if bool(self._criteria(text[None, :length], None)):  # pyright: ignore[reportArgumentType]
                return length
        return None


def _of_row(processor, row: int):
    """Return the processor for one row: a repetition penalty has the padding of every row."""
    ignored = getattr(processor, "prompt_ignore_length", None)
    if type(processor) is not RepetitionPenaltyLogitsProcessor or not isinstance(ignored, Tensor):
        return processor
    return RepetitionPenaltyLogitsProcessor(processor.penalty, prompt_ignore_length=int(ignored[row]))
