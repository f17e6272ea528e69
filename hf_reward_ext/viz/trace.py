"""Numbers of the tokens of finished completions, for the colors of a page."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_reward_ext.base.scoring.completion import CompletionScorer
from hf_reward_ext.base.scoring.conversation import TextOrChat
from hf_reward_ext.elhsr.features import teacher_forced_features
from hf_reward_ext.elhsr.model import prefix_gated_mean
from hf_reward_ext.elhsr.text_classifier import ELHSRForSequenceClassification
from hf_reward_ext.genarm.model import GenARMRewardModel
from hf_reward_ext.rewards.token_mean import token_rewards
from hf_reward_ext.sla.model import RewardTransformer
from hf_reward_ext.sla.text_classifier import RewardTransformerForSequenceClassification

TRACED = (
    ELHSRForSequenceClassification,
    GenARMRewardModel,
    RewardTransformer,
    RewardTransformerForSequenceClassification,
)


class Trace(NamedTuple):
    """
    Tokens of a completion with a number each.

    Args:
        tokens (`list[str]`): Text of each token; together they are the text.
        values (`list[float]`): Number of each token.
    """

    tokens: list[str]
    values: list[float]


@torch.no_grad()
def trace_rewards(
    model: Any, tokenizer: Any, prompts: Sequence[TextOrChat], completions: Sequence[TextOrChat]
) -> list[Trace]:
    """
    Return the reward at each token of completions.

    Args:
        model ([`ELHSRForSequenceClassification`], [`GenARMRewardModel`] or [`RewardTransformer`]): Model with rewards
            of tokens. An ELHSR head gives the reward of the text up to each token, the others that of each token.
        tokenizer: Tokenizer of the model.
        prompts, completions (`list` of `str` or of messages): One prompt per completion.

    Raises:
        TypeError: For a model without rewards of tokens.

    Example:
    ```python
    >>> trace_rewards(ELHSRForSequenceClassification(policy, head), tokenizer, ["2+2="], ["4"])
    [Trace(tokens=['4', ''], values=[0.31, 0.47])]
    ```
    """
    if not isinstance(model, TRACED):
        raise TypeError(
            f"`model` must have rewards of tokens (an ELHSR head with its policy, a reward channel, or an "
            f"autoregressive reward model), got a `{type(model).__name__}`. Leave the trace out."
        )
    encode = CompletionScorer(model, tokenizer).encode
    traces = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids, start = encode(prompt, completion)
        inputs = torch.tensor([ids], device=model.device)
        is_completion = torch.arange(len(ids), device=model.device)[None] >= start
        values = _values(model, inputs, torch.ones_like(inputs), is_completion)
        traces.append(Trace(split_tokens(ids[start:], tokenizer), values[0, start:].tolist()))
    return traces


def _values(model: Any, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
    if isinstance(model, ELHSRForSequenceClassification):
        features = teacher_forced_features(model.policy, model.config, input_ids, attention_mask)
        gates, rewards = model.head.token_rewards(features)
        return prefix_gated_mean(gates, rewards, completion_mask.to(gates.device))
    if isinstance(model, RewardTransformerForSequenceClassification):
        model = model.reward_transformer
    return token_rewards(model, input_ids, attention_mask, completion_mask)


def split_tokens(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """
    Return the text of each token; a character of several tokens belongs to the last of them.

    Args:
        ids (`list[int]`): Tokens of a text. Special tokens are empty.
        tokenizer: Tokenizer of the ids.

    Example:
    ```python
    >>> "".join(split_tokens(tokenizer("two words")["input_ids"], tokenizer))
    'two words'
    ```
    """
    pieces: list[str] = []
    before = start = 0
    for end in range(1, len(ids) + 1):
        known = _decode(ids[before:start], tokenizer)
        text = _decode(ids[before:end], tokenizer)
        if text.endswith("\ufffd") and end < len(ids):  # part of a character
            pieces.append("")
            continue
        pieces.append(text[len(known) :])
        if pieces[-1]:  # a special token is no context for the space before the next token
            before = start
        start = end
    return pieces


def _decode(ids: Sequence[int], tokenizer: Any) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
