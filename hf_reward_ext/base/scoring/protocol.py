"""Protocol of models that score text in their own way."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ScoresText(Protocol):
    """A model, or a set of models, with a way of its own to score prompts and completions."""

    def scorer(self, tokenizer: Any = None, batch_size: int = 16) -> Any:
        """
        Scores in its own way, for [`as_scorer`].

        Args:
            tokenizer (*optional*): Its tokenizer.
            batch_size (`int`, *optional*, defaults to 16): Texts per forward.

        Returns:
            [`Scorer`], or [`PairScorer`] of a judge that compares two responses.

        Raises:
            TypeError: If the tokenizer is needed and missing.
        """
        ...
