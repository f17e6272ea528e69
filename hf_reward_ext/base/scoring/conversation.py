"""Prompt and completion as one chat."""

from collections.abc import Sequence

Turns = Sequence[dict]


def is_chat(prompt: str | Turns, completion: str | Turns) -> bool:
    """
    Whether prompt and completion are messages; a completion may be the text of the assistant's message.

    Raises:
        TypeError: If one of both is neither text nor messages, or messages complete a text.
    """
    for name, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, str) and not _are_messages(value):
            raise TypeError(
                f"A {name} must be text or a list of messages `{{'role': ..., 'content': ...}}`, got {value!r:.80}. "
                "Pass one of both."
            )
    if isinstance(prompt, str) and not isinstance(completion, str):
        raise TypeError(
            f"The completion of a text must be text, got messages for the prompt {prompt[:80]!r}. Pass the prompt as "
            "messages too."
        )
    return not isinstance(prompt, str)


def starts_answer(prompt: str | Turns) -> bool:
    """Whether a chat ends with the beginning of the assistant's answer, which completions continue."""
    return not isinstance(prompt, str) and bool(prompt) and prompt[-1]["role"] == "assistant"


def join_turns(prompt: Turns, completion: str | Turns) -> list[dict]:
    """
    The whole chat. A completion continues the assistant's message that the prompt ends with, if it does.

    Example:
    ```python
    >>> join_turns([{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is "}], "4")[-1]
    {'role': 'assistant', 'content': 'It is 4'}
    ```
    """
    turns = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)
    if not starts_answer(prompt) or not turns or turns[0]["role"] != "assistant":
        return [*prompt, *turns]
    content = _join_contents(prompt[-1]["content"], turns[0]["content"])
    return [*prompt[:-1], {**prompt[-1], **turns[0], "content": content}, *turns[1:]]


def _join_contents(start, end):
    if isinstance(start, str) and isinstance(end, str):
        return start + end
    if start is None or end is None:
        return start or end
    parts = [[{"type": "text", "text": content}] if isinstance(content, str) else content for content in (start, end)]
    return [*parts[0], *parts[1]]


def _are_messages(value: object) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(message, dict) and "role" in message and "content" in message for message in value
    )
