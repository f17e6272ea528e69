"""Token ids of prompts, as best-of-N sends them to a model."""

from typing import Any

from hf_reward_ext.base.preference.chat import render_chat
from hf_reward_ext.base.scoring.conversation import starts_answer
from hf_reward_ext.engines.generator import Prompt


def encode_prompt(prompt: Prompt, tokenizer: Any) -> list[int]:
    """
    Return the token ids of a prompt: text with the special tokens of its tokenizer, messages by its chat template.

    Raises:
        ValueError: If there are none.
    """
    if isinstance(prompt, str):
        ids = tokenizer(prompt)["input_ids"]
    elif starts_answer(prompt):
        ids = render_chat(prompt, tokenizer, continue_final_message=True)
    else:
        ids = render_chat(prompt, tokenizer, add_generation_prompt=True)
    if not ids:
        raise ValueError(f"A prompt must have at least one token, got {prompt!r}. Leave it out.")
    return list(ids)
