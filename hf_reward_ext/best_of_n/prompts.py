"""Checks of the prompts of the `"reward-bon"` pipeline."""

from collections.abc import Sequence
from typing import Any

from hf_reward_ext.base.preference.validation import read_prompt
from hf_reward_ext.base.scoring.conversation import starts_answer


def check_prompts(prompts: str | Sequence, tokenizer: Any, continue_final_message: bool | None = None) -> None:
    """
    Reject prompts that cannot be continued.

    Args:
        prompts (`str`, messages, or a `list` of either): One prompt, or prompts of one kind.
        tokenizer: Tokenizer of the policy.
        continue_final_message (`bool`, *optional*): As for `text-generation`.

    Raises:
        ValueError: If there are no prompts, one is neither text nor messages or empty, text and chats are mixed, or the
            continuation of a chat is not the assistant's; the message names the prompt.
    """
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], dict)):
        check_prompt(prompts, tokenizer, continue_final_message)
        return
    if len(prompts) == 0:
        raise ValueError("Prompts must be given, got an empty list. Pass at least one.")
    for index, prompt in enumerate(prompts):
        check_prompt(prompt, tokenizer, continue_final_message, f"prompts[{index}]")
    kinds = {isinstance(prompt, str) for prompt in prompts}
    if len(kinds) > 1:
        raise ValueError("Prompts must all be text or all be chats, got both. Call the pipeline once for each kind.")


def check_prompt(prompt: Any, tokenizer: Any, continue_final_message: bool | None = None, name: str = "prompt") -> None:
    """Run [`check_prompts`] on one prompt, which messages call `name`."""
    if prompt != "" or not tokenizer("")["input_ids"]:  # BOS alone is a prompt too
        read_prompt(prompt, name)
    if continue_final_message is not None and not isinstance(prompt, str):
        if continue_final_message != starts_answer(prompt):
            raise ValueError(
                f"`continue_final_message` must be None for `{name}`, whose last message is the "
                f"{prompt[-1]['role']}'s, got {continue_final_message}. Leave it out."
            )
