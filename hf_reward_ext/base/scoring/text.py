"""Scorer of texts by a sequence-classification reward model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor

from hf_reward_ext.base.preference.chat import render_chat
from hf_reward_ext.base.preference.validation import Messages
from hf_reward_ext.base.scoring.conversation import TextOrChat, join_turns, read_conversation
from hf_reward_ext.base.scoring.loading import load_reward_model, load_reward_tokenizer
from hf_reward_ext.base.scoring.model_scorer import EncodedText, ModelScorer
from hf_reward_ext.base.scoring.protocol import ScoresText


class TextScorer(ModelScorer):
    """
    Scorer of prompt-completion pairs by any reward model in the format of TRL's `RewardTrainer`.

    Prompt and completion are joined to one text and tokenized without special tokens, as TRL's `reward_funcs` do.
    A model that provides its own scorer (a model of this library) uses it if there is a prompt; a text without a prompt
    is read unchanged.

    Args:
        model (`PreTrainedModel`): Reward model with one label; its `logits[:, 0]` is the reward, without a sigmoid.
        tokenizer: Tokenizer of the model, whose chat template renders messages.
        batch_size (`int`, *optional*, defaults to 16): Number of pairs per forward.

    Raises:
        ValueError: If the model has more than one label, or the tokenizer has no padding token.

    Example:
    ```python
    >>> scorer = TextScorer.from_pretrained("path/to/reward_model")
    >>> scorer(["2+2="], ["4"])  # (1,)
    ```
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 16):
        num_labels = getattr(getattr(model, "config", None), "num_labels", None)
        if num_labels != 1:
            raise ValueError(
                f"A reward model must have one label, got `{type(model).__name__}` with `num_labels={num_labels}`. "
                "Load it with `AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)`."
            )
        if tokenizer.pad_token_id is None:
            raise ValueError(
                "The reward model's tokenizer must have a padding token, because texts are scored in batches. Set "
                "`tokenizer.pad_token`."
            )
        super().__init__(model, tokenizer, batch_size)
        config = model.config.get_text_config()
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id  # as TRL does, to find the last token
        self._own_way = model.scorer(tokenizer, batch_size) if isinstance(model, ScoresText) else None

    @classmethod
    def from_pretrained(cls, name: str | Path, batch_size: int = 16, **model_kwargs: Any) -> Self:
        """Load model and tokenizer by name or from a folder."""
        return cls(load_reward_model(name, **model_kwargs), load_reward_tokenizer(name), batch_size)

    def __call__(self, prompts: Sequence, completions: Sequence, **_) -> Float[Tensor, " batch"]:
        pairs = list(zip(prompts, completions, strict=True))
        apart = [index for index, (prompt, _) in enumerate(pairs) if self._own_way is not None and prompt]
        joined = [index for index in range(len(pairs)) if index not in apart]
        rewards = torch.empty(len(pairs))
        if joined:
            rewards[joined] = super().__call__(*zip(*(pairs[index] for index in joined), strict=True))
        if apart and self._own_way is not None:
            rewards[apart] = torch.tensor(self._own_way(*zip(*(pairs[index] for index in apart), strict=True)))
        return rewards

    def encode(self, prompt: TextOrChat, completion: TextOrChat) -> EncodedText:
        prompt, completion = read_conversation(prompt, completion)
        if isinstance(prompt, str):
            return EncodedText(self.tokenizer(f"{prompt}{completion}", add_special_tokens=False)["input_ids"], 0)
        return EncodedText(render_chat(join_turns(prompt, cast(Messages, completion)), self.tokenizer), 0)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits[:, 0]

    @property
    def _pad_token_id(self) -> int:
        return self.model.config.get_text_config().pad_token_id
