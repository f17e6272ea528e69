"""Token ids of prompts, as best-of-N sends them to a model."""

from typing import Any

from hf_reward_ext.base.preference.pairs import tokenize_prompt
from hf_reward_ext.engines.generator import Prompt


def encode_prompt(prompt: Prompt, tokenizer: Any) -> list[int]:
    """
    Return the token ids of a prompt: text with the special tokens of its tokenizer, messages by its chat template.

    Raises:
        ValueError: If there are none.
    """
    ids = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else tokenize_prompt(prompt, tokenizer)
    if not ids:
        raise ValueError(f"A prompt must have at least one token, got {prompt!r}. Leave it out.")
    return list(ids)
