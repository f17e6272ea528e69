"""Joining of a prompt and a completion to one chat."""

from collections.abc import Sequence

from hf_reward_ext.base.preference.validation import Messages, read_prompt

TextOrChat = str | Sequence[dict]


def read_conversation(prompt: TextOrChat, completion: TextOrChat) -> tuple[str, str] | tuple[Messages, Messages]:
    """
    Return prompt and completion in the same form: two texts, or two lists of messages.

    Args:
        prompt (`str` or messages): The prompt.
        completion (`str` or messages): The completion; a text that completes messages is the assistant's.

    Raises:
        ValueError: If one is neither text nor messages, or messages complete a text.
    """
    if isinstance(prompt, str):
        if not isinstance(completion, str):
            raise ValueError(
                f"The completion of a text must be text, got messages for the prompt {prompt[:80]!r}. Pass the prompt "
                "as messages too."
            )
        return prompt, completion
    turns = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    return list(read_prompt(prompt)), list(read_prompt(turns, "completion"))  # pyright: ignore[reportReturnType]


def starts_answer(prompt: TextOrChat) -> bool:
    """Return `True` if a chat ends with the beginning of the assistant's answer, which completions continue."""
    return not isinstance(prompt, str) and len(prompt) > 0 and prompt[-1].get("role") == "assistant"


def join_turns(prompt: Messages, completion: Messages) -> Messages:
    """
    Return the whole chat. If the prompt ends with an assistant message, the completion continues it.

    Example:
    ```python
    >>> prompt = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is "}]
    >>> join_turns(prompt, [{"role": "assistant", "content": "4"}])[-1]
    {'role': 'assistant', 'content': 'It is 4'}
    ```
    """
    if not starts_answer(prompt) or completion[0]["role"] != "assistant":
        return [*prompt, *completion]
    content = (prompt[-1].get("content") or "") + (completion[0].get("content") or "")
    return [*prompt[:-1], {**prompt[-1], **completion[0], "content": content}, *completion[1:]]
