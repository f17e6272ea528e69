"""Judgments that a causal language model writes, and their cost in tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from hf_reward_ext.base.lm.row_ends import watch_row_ends
from hf_reward_ext.base.lm.tokens import eos_token_ids, left_padded, pad_token_id
from hf_reward_ext.base.preference.pairs import tokenize_prompt


class Written(NamedTuple):
    """
    A written judgment.

    Args:
        text (`str`): The judgment.
        prompt_tokens (`int`): Number of tokens that the judge read.
        new_tokens (`int`): Number of tokens that it wrote.
    """

    text: str
    prompt_tokens: int
    new_tokens: int


class WritingJudge:
    """
    Judge that writes greedily with a causal language model.

    Args:
        causal_lm (`PreTrainedModel`): Model that writes.
        tokenizer: Tokenizer of the model; with a chat template a request is a user's message.
        max_new_tokens (`int`): Maximum number of tokens of a judgment.
        batch_size (`int`): Number of requests per call of `generate`.
        generation_kwargs (`dict`, *optional*): Further arguments of `generate`.
    """

    def __init__(
        self,
        causal_lm: Any,
        tokenizer: Any,
        max_new_tokens: int,
        batch_size: int,
        generation_kwargs: Mapping[str, Any] | None = None,
    ):
        self.causal_lm = causal_lm.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.settings = {"do_sample": False, "max_new_tokens": max_new_tokens, **(generation_kwargs or {})}

    def __call__(self, requests: Sequence[str]) -> list[Written]:
        """Return a judgment for each request."""
        batches = [requests[start : start + self.batch_size] for start in range(0, len(requests), self.batch_size)]
        return [written for batch in batches for written in self._write(batch)]

    @torch.no_grad()
    def _write(self, requests: Sequence[str]) -> list[Written]:
        rows = [self._encode(request) for request in requests]
        config = self.causal_lm.generation_config
        pad = pad_token_id(config, self.tokenizer)
        input_ids, attention_mask = left_padded(rows, pad or 0, self.causal_lm.device)
        stops = eos_token_ids(config, self.tokenizer)
        with watch_row_ends(self.causal_lm) as ends:
            sequences = self.causal_lm.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                pad_token_id=pad,
                eos_token_id=stops or None,
                **self.settings,
            )
        kept = ends.completion_mask(sequences, input_ids.shape[1])
        ids = [row[mask].tolist() for row, mask in zip(sequences[:, input_ids.shape[1] :], kept, strict=True)]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [Written(text, len(row), len(new)) for text, row, new in zip(texts, rows, ids, strict=True)]

    def _encode(self, request: str) -> list[int]:
        chat = self.tokenizer.chat_template is not None
        return tokenize_prompt([{"role": "user", "content": request}] if chat else request, self.tokenizer)
