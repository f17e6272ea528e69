"""Token ids of prompts of a command."""

from collections.abc import Sequence
from typing import Any


def encode(prompts: Sequence, tokenizer: Any, **kwargs: Any) -> Any:
    """
    Tokenize prompts, all text or all messages, padded on the left.

    Args:
        prompts (`list` of `str` or of messages): Prompts to tokenize.
        tokenizer: Tokenizer of the policy.
        **kwargs: Arguments of the tokenizer.
    """
    texts = [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        for prompt in prompts
    ]
    special = isinstance(prompts[0], str)  # a chat template adds special tokens itself
    return tokenizer(texts, add_special_tokens=special, return_token_type_ids=False, **{"padding": True, **kwargs})
