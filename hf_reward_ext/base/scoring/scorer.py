"""Whatever scores text, as one kind of thing: the only resolver."""

import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from hf_reward_ext.base.preference.validation import Messages
from hf_reward_ext.base.scoring.completion import CompletionScorer
from hf_reward_ext.base.scoring.conversation import join_turns, read_conversation, starts_answer
from hf_reward_ext.base.scoring.function import RewardFunction
from hf_reward_ext.base.scoring.loading import load_reward_model, load_reward_tokenizer
from hf_reward_ext.base.scoring.model_scorer import ModelScorer
from hf_reward_ext.base.scoring.pair import PairScorer
from hf_reward_ext.base.scoring.protocol import ScoresText
from hf_reward_ext.base.scoring.rewards import Rewards, check_rewards
from hf_reward_ext.base.scoring.text import TextScorer


class Scorer:
    """
    Rewards of prompts and completions: one finite number each, or `None` where there is no answer.

    Also a reward function for TRL's `reward_funcs`.

    Args:
        function (`callable`): Reward function, called as its signature asks, see [`RewardFunction`].
        name (`str`, *optional*): Name in results and logs. Default: that of the function.
        models (`list` of `nn.Module`, *optional*): The models in it, which [`to`] moves.
        reads_messages (`bool`, *optional*, defaults to `False`): `True` if a text prompt should come as a
            user's message.
        joins_answers (`bool`, *optional*, defaults to `True`): `True` if the function gets an answer whose beginning is
            the last message of its prompt as one message of the completion, as from TRL's trainers.
        parts (`list` of [`Scorer`], *optional*): Scorers that it asks; their models, columns and messages are its.

    Example:
    ```python
    >>> Scorer(lambda prompts, completions: [len(text) for text in completions])(["2+2="], ["four"])
    [4.0]
    ```
    """

    def __init__(
        self,
        function: Callable,
        *,
        name: str | None = None,
        models: Sequence[nn.Module] = (),
        reads_messages: bool = False,
        joins_answers: bool = True,
        parts: Sequence["Scorer"] = (),
    ):
        self.function = RewardFunction(function)
        self.__name__ = name or self.function.name
        self.models = [*models, *(model for part in parts for model in part.models)]
        self.reads_messages = reads_messages or any(part.reads_messages for part in parts)
        self.joins_answers = joins_answers and not parts
        self.parts = list(parts)

    @classmethod
    def from_model_scorer(cls, scorer: ModelScorer) -> "Scorer":
        """The scorer of one model."""
        return cls(
            scorer,
            name=scorer.__name__,
            models=[scorer.model],
            reads_messages=scorer.reads_messages,
            joins_answers=False,  # it looks at where the completion begins
        )

    def __call__(self, prompts: Sequence, completions: Sequence, **columns: Any) -> Rewards:
        """
        Args:
            prompts, completions (`list` of `str` or of message lists): One prompt per completion.
            **columns: Columns of the prompts, for functions that read them.

        Raises:
            TypeError: If a column is missing, or no list of numbers comes back.
            ValueError: If a number is missing, NaN or infinite.
        """
        return self.score(prompts, completions, columns)

    def score(
        self, prompts: Sequence, completions: Sequence, columns: dict[str, Any] | None = None, *, nan_is_missing=False
    ) -> Rewards:
        """The same, with the columns as a `dict`; `nan_is_missing` as for [`check_rewards`]."""
        if self.joins_answers:
            prompts, completions = _join_answers(prompts, completions)
        returned = self.function(prompts, completions, columns)
        return check_rewards(returned, prompts, self.__name__, nan_is_missing=nan_is_missing)

    def check_columns(self, available: Collection[str]) -> None:
        """Raises `TypeError` if a function has an argument that no column fills."""
        for function in (self.function, *(part.function for part in self.parts)):
            function.check_columns(available)

    def to(self, device: torch.device | str) -> "Scorer":
        """Moves the models to a device, but those that are spread over several."""
        for model in self.models:
            if not hasattr(model, "hf_device_map"):
                model.to(device)
        return self


def as_scorer(scorer: Any, tokenizer: Any = None, batch_size: int = 16) -> Scorer | PairScorer:
    """
    One scorer for whatever scores text.

    Args:
        scorer: A reward model of ours, of TRL or of the Hub, its name or folder; a judge; a weighted set of scorers; a
            reward function; or a [`PairScorer`].
        tokenizer (*optional*): Tokenizer of a model given as an object.
        batch_size (`int`, *optional*, defaults to 16): Texts per forward of a model.

    Returns:
        [`Scorer`], or [`PairScorer`] if it compares two responses.

    Raises:
        TypeError: For a model without tokenizer, a function that cannot be called with prompts and completions, or
            something that does not score text.
        ValueError: For a name that is no reward model.

    Example:
    ```python
    >>> as_scorer("path/to/reward_model")(["2+2="], ["4"])
    [1.25]
    ```
    """
    if isinstance(scorer, Scorer | PairScorer):
        return scorer
    if isinstance(scorer, str | Path):
        model = load_reward_model(scorer)
        return as_scorer(model, tokenizer or _tokenizer_of(model, scorer), batch_size)
    if isinstance(scorer, ScoresText) and not inspect.isclass(scorer):
        return scorer.scorer(tokenizer, batch_size)
    if isinstance(scorer, ModelScorer):
        return Scorer.from_model_scorer(scorer)
    if isinstance(scorer, nn.Module):
        require_tokenizer(scorer, tokenizer)
        takes_mask = "completion_mask" in inspect.signature(scorer.forward).parameters
        kind = CompletionScorer if takes_mask else TextScorer
        return Scorer.from_model_scorer(kind(scorer, tokenizer, batch_size))
    if not callable(scorer):
        raise TypeError(
            f"`scorer` is a `{type(scorer).__name__}`, but it must score text. Pass a reward model, its name, or a "
            "callable `(prompts, completions) -> rewards`."
        )
    return Scorer(scorer)


def as_single_scorer(scorer: Any, tokenizer: Any = None, batch_size: int = 16) -> Scorer:
    """
    [`as_scorer`] for those who need a reward of each completion by itself.

    Raises:
        ValueError: If it compares pairs.
    """
    resolved = as_scorer(scorer, tokenizer, batch_size)
    if isinstance(resolved, PairScorer):
        raise ValueError(
            f"A judge of pairs was given (`{resolved.__name__}`), but candidates are ranked by rewards of single "
            "completions. Use one with pointwise verdicts (`('Yes', 'No')` or digits)."
        )
    return resolved


def completion_scorer(model: Any, tokenizer: Any, batch_size: int, reader: nn.Module) -> Scorer:
    """
    The scorer of a model whose forward takes `completion_mask`.

    Args:
        model, tokenizer, batch_size, reader: As for [`CompletionScorer`].

    Raises:
        TypeError: Without a tokenizer.
    """
    require_tokenizer(model, tokenizer)
    return Scorer.from_model_scorer(CompletionScorer(model, tokenizer, batch_size, reader))


def _join_answers(prompts: Sequence, completions: Sequence) -> tuple[list, list]:
    pairs = [
        (prompt[:-1], join_turns(*_read_chat(prompt, completion))[len(prompt) - 1 :])
        if starts_answer(prompt)
        else (prompt, completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return [prompt for prompt, _ in pairs], [completion for _, completion in pairs]


def _read_chat(prompt: Sequence[dict], completion: Any) -> tuple[Messages, Messages]:
    return cast(tuple[Messages, Messages], read_conversation(prompt, completion))


def require_tokenizer(model: Any, tokenizer: Any) -> None:
    """Raises `TypeError` if a model was given as an object without its tokenizer."""
    if tokenizer is None:
        raise TypeError(
            f"`{type(model).__name__}` was given without its tokenizer, which must be there to score text. Pass "
            "`tokenizer=...` (of a callback or the pipeline: `reward_processing_class=...`) too."
        )


def _tokenizer_of(model: Any, name: str | Path) -> Any:
    return getattr(model, "tokenizer", None) or load_reward_tokenizer(name)  # a judge brings its own
