"""Any reward model becomes a callable: on responses one by one, or on two at a time."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_reward_ext.base.preference import tokenize_completion
from hf_reward_ext.base.text_scorer import TextScorer
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.fast_slow import FastSlowRewardModel


class PairScorer:
    """
    Marks a callable that compares two responses, for [`evaluate_preferences`].

    Args:
        log_odds (`callable`): `(prompts, responses_a, responses_b) -> numbers`, above 0 where a is better; the first
            response is the one shown first.

    Example:
    ```python
    >>> PairScorer(lambda prompts, a, b: [len(one) - len(other) for one, other in zip(a, b)])
    ```
    """

    def __init__(self, log_odds: Callable):
        self.log_odds = log_odds
        self.__name__ = getattr(log_odds, "__name__", type(log_odds).__name__)

    def compare(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> np.ndarray:
        """
        Log-odds of a over b: with a shown first, with b shown first, and what decides, here the mean of both.

        Returns:
            `np.ndarray` of shape `(pairs, 3)`.
        """
        first = as_numbers(self.log_odds(prompts, responses_a, responses_b))
        second = -as_numbers(self.log_odds(prompts, responses_b, responses_a))
        return np.stack([first, second, (first + second) / 2], axis=-1)


class JudgeScorer(PairScorer):
    """
    A [`FastSlowRewardModel`] with pairwise verdicts, asked as it is configured.

    With `both_orders` one decision holds the verdicts of both orders and decides by its own mean; without, it is
    asked twice.
    """

    def __init__(self, judge: FastSlowRewardModel):
        super().__init__(lambda *pairs: [one.score for one in judge.judge(*pairs, show_progress=False)])
        self.judge = judge
        self.__name__ = type(judge).__name__

    def compare(self, prompts: Sequence, responses_a: Sequence, responses_b: Sequence) -> np.ndarray:
        """As of [`PairScorer`]."""
        if not self.judge.config.both_orders:
            return super().compare(prompts, responses_a, responses_b)
        one_order = replace(self.judge.scale, pairing="none")
        return np.array(
            [
                [
                    one_order.score(one.fast_scores[:1], one.vote_scores[:1]),
                    -one_order.score(one.fast_scores[1:], one.vote_scores[1:]),
                    one.score,
                ]
                for one in self.judge.judge(prompts, responses_a, responses_b, show_progress=False)
            ]
        )


class CompletionScorer:
    """
    Rewards by a model that is told where the completion begins: its forward takes `completion_mask`.

    Texts and messages are tokenised as in training, EOS included.

    Args:
        model (`PreTrainedModel`): [`GenARMRewardModel`], [`ELHSRForSequenceClassification`], a Reward
            Transformer as a classifier, or one alike.
        tokenizer: Its tokenizer.
        batch_size (`int`, *optional*, defaults to 16): Completions per forward.
    """

    def __init__(self, model, tokenizer, batch_size: int = 16):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.__name__ = getattr(model.config, "_name_or_path", "").split("/")[-1] or type(model).__name__

    @torch.no_grad()
    def __call__(self, prompts: Sequence, completions: Sequence, **_) -> Float[Tensor, " batch"]:
        """Rewards of prompts and completions, text or messages; float32, on the CPU."""
        pairs = [
            tokenize_completion(prompt, completion, self.tokenizer)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        rewards = [self._forward(pairs[at : at + self.batch_size]) for at in range(0, len(pairs), self.batch_size)]
        return torch.cat(rewards)

    def _forward(self, pairs: list[tuple[list[int], list[int]]]) -> Float[Tensor, " batch"]:
        width = max(len(prompt) + len(completion) for prompt, completion in pairs)
        input_ids = torch.zeros(len(pairs), width, dtype=torch.long)
        attention_mask = torch.zeros_like(input_ids)
        completion_mask = torch.zeros_like(input_ids, dtype=torch.bool)
        for row, (prompt, completion) in enumerate(pairs):
            end = len(prompt) + len(completion)
            input_ids[row, :end] = torch.tensor(prompt + completion)
            attention_mask[row, :end] = 1
            completion_mask[row, len(prompt) : end] = True
        inputs = dict(input_ids=input_ids, attention_mask=attention_mask, completion_mask=completion_mask)
        out = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()})
        return out.logits[:, 0].float().cpu()


def as_scorer(scorer, tokenizer=None, batch_size: int = 16) -> Callable | PairScorer:
    """
    A callable for whatever scores text.

    Args:
        scorer: A [`FastSlowRewardModel`] (pairwise or pointwise verdicts), a sequence-classification reward model with
            its `tokenizer`, the name or folder of either, a [`PairScorer`], or any
            `(prompts, completions) -> rewards`.
        tokenizer (*optional*): Of a model given as an object.
        batch_size (`int`, *optional*, defaults to 16): Texts per forward of a model.

    Returns:
        A [`PairScorer`], or a callable on prompts and completions.

    Raises:
        TypeError: For a model without tokenizer, an ELHSR head without its policy, or something that is not callable.
    """
    if isinstance(scorer, str):
        model = AutoModelForSequenceClassification.from_pretrained(scorer)
        if not isinstance(model, FastSlowRewardModel):  # which brings its own
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(scorer)
        return as_scorer(model, tokenizer, batch_size)
    if isinstance(scorer, FastSlowRewardModel):
        return JudgeScorer(scorer) if scorer.judge_prompt.is_pairwise else _pointwise(scorer)
    if isinstance(scorer, ELHSRModel):
        raise TypeError(
            "An `ELHSRModel` was given, but the head alone reads hidden states, not text. Pass "
            "`ELHSRForSequenceClassification(policy, head)` and the tokenizer."
        )
    if isinstance(scorer, nn.Module):
        if tokenizer is None:
            raise TypeError(f"`{type(scorer).__name__}` was given without its tokenizer. Pass `tokenizer=...` too.")
        told = "completion_mask" in inspect.signature(scorer.forward).parameters
        return (CompletionScorer if told else TextScorer)(scorer, tokenizer, batch_size)
    if not callable(scorer) and not isinstance(scorer, PairScorer):
        raise TypeError(
            f"`scorer` is a `{type(scorer).__name__}`, but it must score text. Pass a reward model, its name, or a "
            "callable `(prompts, completions) -> rewards`."
        )
    return scorer


def has_chat_template(scorer) -> bool:
    """Whether the scorer reads messages: it has a tokenizer with a chat template."""
    return isinstance(scorer, TextScorer | CompletionScorer) and scorer.tokenizer.chat_template is not None


def as_numbers(found) -> np.ndarray:
    """What a scorer returned, in double precision."""
    return found.double().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found, dtype=float)


def _pointwise(judge: FastSlowRewardModel) -> Callable:
    def score(prompts, completions) -> Tensor:
        return judge.score(prompts, completions)

    score.__name__ = type(judge).__name__
    return score
