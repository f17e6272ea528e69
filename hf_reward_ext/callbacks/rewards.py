"""Rewards of completions, by whatever scores text."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_reward_ext.base.saving.base_model import load_base
from hf_reward_ext.base.scoring.completion import CompletionScorer
from hf_reward_ext.callbacks.prompts import Prompt
from hf_reward_ext.elhsr import ELHSRForSequenceClassification, ELHSRModel
from hf_reward_ext.evaluation.pair_scorer import PairScorer
from hf_reward_ext.evaluation.scorer import as_scorer


class Rewards:
    """
    Raw rewards of the candidates of prompts.

    Args:
        reward_model (`str`, `PreTrainedModel`, [`ELHSRModel`] or `callable`): A reward model or the name or folder of
            one; or a function with the arguments of TRL's reward functions: `prompts` and `completions`, one of each
            per candidate, and columns of the prompts by their names. It may be asynchronous.
        processing_class (*optional*): Tokenizer of a reward model given as an object.

    Raises:
        TypeError: If it cannot score text.
        ValueError: If it compares pairs, which gives no reward to a single completion.
    """

    def __init__(self, reward_model: str | PreTrainedModel | Callable, processing_class=None):
        if isinstance(reward_model, ELHSRModel):
            reward_model = ELHSRForSequenceClassification(load_base(reward_model.config), reward_model)
        scorer = as_scorer(reward_model, processing_class)
        if isinstance(scorer, PairScorer):
            raise ValueError(
                "A judge of pairs was given, but best-of-N needs a reward of every single completion. Use one with "
                "pointwise verdicts (`('Yes', 'No')` or digits)."
            )
        self.function = scorer

    def to(self, device: torch.device) -> None:
        """Puts a model that scores on this process's device."""
        model = getattr(self.function, "model", None)
        if isinstance(model, PreTrainedModel) and not hasattr(model, "hf_device_map"):
            model.to(device)  # pyright: ignore[reportArgumentType]

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """
        Args:
            prompts (`list` of [`Prompt`]): The prompts.
            texts (`list` of `list[str]`): Of each the candidates.

        Raises:
            ValueError: If a reward is missing, or not a number.
        """
        rows = [(prompt, text) for prompt, group in zip(prompts, texts, strict=True) for text in group]
        given: dict[str, Any] = {name: [prompt.columns[name] for prompt, _ in rows] for name in prompts[0].columns}
        given["prompts"] = [prompt.shown for prompt, _ in rows]
        given["completions"] = [self._completion(prompt, text) for prompt, text in rows]
        found = self.function(**_accepted(self.function, given))
        if inspect.isawaitable(found):
            with ThreadPoolExecutor(1) as thread:  # a notebook's own loop runs in this one
                found = thread.submit(asyncio.run, _result(found)).result()
        rewards = np.array([np.nan if reward is None else float(reward) for reward in found])
        if len(rewards) != len(rows) or np.isnan(rewards).any():
            raise ValueError(
                f"The reward gave {len(rewards)} values, {int(np.isnan(rewards).sum())} of them NaN or None, but each "
                f"of {len(rows)} completions needs one. Return a number for every completion."
            )
        ends = np.cumsum([len(group) for group in texts])[:-1]
        return [group.tolist() for group in np.split(rewards, ends)]

    def _completion(self, prompt: Prompt, text: str):
        if not text and isinstance(self.function, CompletionScorer):
            text = self.function.tokenizer.eos_token  # nothing was written before it
        return text if isinstance(prompt.shown, str) else [{"role": "assistant", "content": text}]


def _accepted(function: Callable, given: dict[str, Any]) -> dict[str, Any]:
    """What a function has parameters for."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return given
    return {name: value for name, value in given.items() if name in parameters}


async def _result(awaitable):
    return await awaitable
