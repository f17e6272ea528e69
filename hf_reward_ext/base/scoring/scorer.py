"""Scorers: the only module that resolves models, names, judges and functions that score text."""

import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from hf_reward_ext.base.plugins import find_plugin
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
    Scorer of prompts and completions: one finite reward per completion, or `None` for no answer.

    A scorer can also be passed to TRL as one of the `reward_funcs`.

    Args:
        function (`callable`): Reward function, called according to its signature, see [`RewardFunction`].
        name (`str`, *optional*): Name in results and logs. Default: the name of the function.
        models (`list` of `nn.Module`, *optional*): Models of the scorer, which [`to`] moves.
        reads_messages (`bool`, *optional*, defaults to `False`): `True` if a text prompt should come as a
            user's message.
        joins_answers (`bool`, *optional*, defaults to `True`): `True` if an answer that begins in the last message of
            the prompt is passed to the function as one message of the completion, as TRL's trainers do.
        parts (`list` of [`Scorer`], *optional*): Scorers that the function calls; their models and columns are
            added to those of this scorer.
        check (`callable`, *optional*): Function of prompts and completions that raises what scoring them would raise
            about the texts, without scoring.

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
        check: Callable | None = None,
    ):
        self.function = RewardFunction(function)
        self.__name__ = name or self.function.name
        self.models = [*models, *(model for part in parts for model in part.models)]
        self.reads_messages = reads_messages or any(part.reads_messages for part in parts)
        self.joins_answers = joins_answers and not parts
        self.parts = list(parts)
        self.model_scorer: ModelScorer | None = None
        self._check = check

    @classmethod
    def from_model_scorer(cls, scorer: ModelScorer) -> "Scorer":
        """Return the scorer of one model, which is its attribute `model_scorer`."""
        made = cls(
            scorer,
            name=scorer.__name__,
            models=[scorer.model],
            reads_messages=scorer.reads_messages,
            joins_answers=False,  # the model uses the start of the completion
            check=scorer.check,
        )
        made.model_scorer = scorer
        return made

    def __call__(self, prompts: Sequence, completions: Sequence, **columns: Any) -> Rewards:
        """
        Score completions.

        Args:
            prompts, completions (`list` of `str` or of message lists): One prompt per completion.
            **columns: Columns of the prompts, for functions that read them.

        Raises:
            TypeError: If a column is missing, or the function does not return a list of numbers.
            ValueError: If a number is missing, NaN or infinite.
        """
        return self.score(prompts, completions, columns)

    def score(
        self, prompts: Sequence, completions: Sequence, columns: dict[str, Any] | None = None, *, nan_is_missing=False
    ) -> Rewards:
        """Score completions, with the columns as a `dict`; `nan_is_missing` as for [`check_rewards`]."""
        if self.joins_answers:
            prompts, completions = _join_answers(prompts, completions)
        returned = self.function(prompts, completions, columns)
        return check_rewards(returned, prompts, self.__name__, nan_is_missing=nan_is_missing)

    def check(self, prompts: Sequence, completions: Sequence) -> None:
        """Raise the errors about texts that scoring would raise, before any forward; arguments as for a call."""
        if self._check is not None:
            self._check(prompts, completions)
        for part in self.parts:
            part.check(prompts, completions)

    def check_columns(self, available: Collection[str]) -> None:
        """Raise `TypeError` if an argument of a function has no column."""
        for function in (self.function, *(part.function for part in self.parts)):
            function.check_columns(available)

    def to(self, device: torch.device | str) -> "Scorer":
        """Move the models to a device, except models that are spread over several devices."""
        for model in self.models:
            if not hasattr(model, "hf_device_map"):
                model.to(device)
        return self


def as_scorer(scorer: Any, tokenizer: Any = None, batch_size: int = 16) -> Scorer | PairScorer:
    """
    Return a scorer for anything that scores text.

    Args:
        scorer: A reward model (of this library, TRL or the Hub), its name or folder; a judge; a weighted set of
            scorers; a reward function, or the name of one that an installed package declares; or a [`PairScorer`].
        tokenizer (*optional*): Tokenizer of a model that is passed as an object.
        batch_size (`int`, *optional*, defaults to 16): Number of texts per forward of a model.

    Returns:
        [`Scorer`], or [`PairScorer`] if it compares two responses.

    Raises:
        TypeError: For a model without tokenizer, a function that cannot be called with prompts and completions, or
            something that does not score text.
        ValueError: For a name of something else than a reward model.

    Example:
    ```python
    >>> as_scorer("path/to/reward_model")(["2+2="], ["4"])
    [1.25]
    ```
    """
    if isinstance(scorer, Scorer | PairScorer):
        return scorer
    if isinstance(scorer, str) and (plugin := find_plugin("rewards", scorer)) is not None:
        return as_scorer(plugin.load(), tokenizer, batch_size)
    if isinstance(scorer, str | Path):
        model = load_reward_model(scorer)
        own = getattr(model, "tokenizer", None)  # of a judge
        return as_scorer(model, tokenizer or own or load_reward_tokenizer(scorer), batch_size)
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
    Return the scorer of [`as_scorer`], which must score single completions.

    Raises:
        ValueError: If the scorer compares pairs.
    """
    resolved = as_scorer(scorer, tokenizer, batch_size)
    if isinstance(resolved, PairScorer):
        raise ValueError(
            f"The scorer must reward single completions, got the judge of pairs `{resolved.__name__}`. Use a "
            "judge with pointwise verdicts (`('Yes', 'No')` or digits)."
        )
    return resolved


def completion_scorer(model: Any, tokenizer: Any, batch_size: int, reader: nn.Module) -> Scorer:
    """
    Return the scorer of a model whose forward takes `completion_mask`.

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
    """Raise `TypeError` if a model is passed as an object without its tokenizer."""
    if tokenizer is None:
        raise TypeError(
            f"A `{type(model).__name__}` must have a tokenizer to score text, got it without its tokenizer. Pass "
            "`tokenizer=...` (of a callback or the pipeline: `reward_processing_class=...`) too."
        )
