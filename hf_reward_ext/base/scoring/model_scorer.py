"""Base class of scorers that run a model: tokens in, one reward per row out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hf_reward_ext.base.lm.context import longest_input
from hf_reward_ext.base.scoring.conversation import TextOrChat


class EncodedText(NamedTuple):
    """
    A tokenized text.

    Args:
        ids (`list[int]`): Tokens of prompt and completion.
        start (`int`): Position of the first token of the completion.
    """

    ids: list[int]
    start: int


class ModelScorer(ABC):
    """
    Scorer of prompts and completions by a model, in batches padded on the right.

    Args:
        model (`PreTrainedModel`): Reward model whose `logits[:, 0]` are the rewards.
        tokenizer: Tokenizer of the model.
        batch_size (`int`, *optional*, defaults to 16): Number of texts per forward.
        reader (`nn.Module`, *optional*): Language model inside `model`, whose context limits the length of texts.
            Default: `model`.

    Raises:
        ValueError: If `batch_size` is not positive.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 16, reader: nn.Module | None = None):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.longest_input = longest_input(model if reader is None else reader)
        self.__name__ = getattr(model.config, "_name_or_path", "").split("/")[-1] or type(model).__name__

    @property
    def reads_messages(self) -> bool:
        """`True` if the tokenizer has a chat template."""
        return self.tokenizer.chat_template is not None

    @abstractmethod
    def encode(self, prompt: TextOrChat, completion: TextOrChat) -> EncodedText:
        """Return the tokens of one prompt with its completion."""

    @abstractmethod
    def forward(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
        """Return the rewards `(rows,)` of a batch."""

    @torch.no_grad()
    def __call__(self, prompts: Sequence, completions: Sequence, **_) -> Float[Tensor, " batch"]:
        """
        Score completions.

        Args:
            prompts (`list` of `str` or of message lists): One per completion.
            completions (`list` of `str` or of message lists): The completions to score.

        Returns:
            `torch.Tensor` of shape `(batch,)`, float32, on the CPU.

        Raises:
            ValueError: If a text is empty or longer than the context of the model; the message names it.
        """
        texts = self._encode(prompts, completions)
        batches = [texts[start : start + self.batch_size] for start in range(0, len(texts), self.batch_size)]
        return torch.cat([torch.empty(0), *(self._score(batch) for batch in batches)])

    def check(self, prompts: Sequence, completions: Sequence) -> None:
        """Raise the errors of a call about its texts, without any forward."""
        self._encode(prompts, completions)

    def _encode(self, prompts: Sequence, completions: Sequence) -> list[EncodedText]:
        texts = [self.encode(*pair) for pair in zip(prompts, completions, strict=True)]
        for index, text in enumerate(texts):
            self._check_length(len(text.ids), index)
        return texts

    def _check_length(self, length: int, index: int) -> None:
        if length == 0:
            raise ValueError(f"Response {index} and its prompt must have tokens, got none. Leave the row out.")
        if self.longest_input is not None and length > self.longest_input:
            raise ValueError(
                f"Response {index} must have at most {self.longest_input} tokens with its prompt, which is all that "
                f"`{self.__name__}` reads, got {length}. Shorten it, or score with a model of a longer context."
            )

    def _score(self, texts: Sequence[EncodedText]) -> Float[Tensor, " rows"]:
        return self.forward(*self._pad(texts)).float().cpu()

    @property
    def _pad_token_id(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def _pad(
        self, texts: Sequence[EncodedText]
    ) -> tuple[Int[Tensor, "rows seq"], Int[Tensor, "rows seq"], Bool[Tensor, "rows seq"]]:
        """Return the ids, attention mask and completion mask, on the device of the model."""
        width = max(len(text.ids) for text in texts)
        input_ids = torch.full((len(texts), width), self._pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros_like(input_ids)
        completion_mask = torch.zeros_like(input_ids, dtype=torch.bool)
        for row, text in enumerate(texts):
            end = len(text.ids)
            input_ids[row, :end] = torch.tensor(text.ids)
            attention_mask[row, :end] = 1
            completion_mask[row, text.start : end] = True
        device = self.model.device
        return input_ids.to(device), attention_mask.to(device), completion_mask.to(device)
