"""Token ids of prompts, as best-of-N sends them to a model."""

from collections.abc import Sequence
from typing import Any

from hf_reward_ext.base.preference.pairs import tokenize_prompt
from hf_reward_ext.base.preference.validation import read_prompt
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


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """
    Reject what an engine cannot continue.

    Raises:
        TypeError: If the prompts are a single text.
        ValueError: If one is neither text nor messages; the message names it.
    """
    if isinstance(prompts, str):
        raise TypeError("`prompts` must be a list of prompts, got text. Pass a list of it.")
    for index, prompt in enumerate(prompts):
        if prompt != "":  # BOS alone is a prompt too
            read_prompt(prompt, f"prompts[{index}]")
