"""Any reward model becomes a callable: on responses one by one, or on two at a time."""

import inspect
from collections.abc import Callable

from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_reward_ext.base.scoring.completion import CompletionScorer
from hf_reward_ext.base.scoring.text import TextScorer
from hf_reward_ext.elhsr import ELHSRModel
from hf_reward_ext.evaluation.pair_scorer import JudgeScorer, PairScorer
from hf_reward_ext.fast_slow import FastSlowRewardModel


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


def _pointwise(judge: FastSlowRewardModel) -> Callable:
    def score(prompts, completions) -> Tensor:
        return judge.score(prompts, completions)

    score.__name__ = type(judge).__name__
    return score
