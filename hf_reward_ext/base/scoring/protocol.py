"""Protocol of models with a custom way of scoring text."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ScoresText(Protocol):
    """Protocol of a model, or a set of models, that provides its own scorer."""

    def scorer(self, tokenizer: Any = None, batch_size: int = 16) -> Any:
        """
        Return the scorer of the model, for [`as_scorer`].

        Args:
            tokenizer (*optional*): Tokenizer of the model.
            batch_size (`int`, *optional*, defaults to 16): Texts per forward.

        Returns:
            [`Scorer`], or [`PairScorer`] for a judge that compares two responses.

        Raises:
            TypeError: If a tokenizer is required and missing.
        """
        ...
