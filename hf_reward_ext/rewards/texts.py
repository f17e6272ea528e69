"""Texts of prompts and completions for rewards, which read text only."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hf_reward_ext.base.preference.validation import is_chat, read_prompt

_IMAGE_COLUMNS = ("image", "images")


def check_text_only(name: str, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> None:
    """
    Reject prompts and completions that a reward of text cannot read.

    Args:
        name (`str`): Name of the reward, for messages.
        prompts, completions (`list` of `str` or of messages): One prompt per completion.
        columns (`dict` from `str` to `list`): Columns of the data.

    Raises:
        ValueError: For what is neither text nor messages, for messages with images or other parts than text, and for a
            column of images.

    Example:
    ```python
    >>> check_text_only("judge", ["a"], ["b"], {"images": [["cat.png"]]})
    ValueError: `judge` must get text only, got the column 'images'. ...
    ```
    """
    for column in _IMAGE_COLUMNS:
        if any(value is not None and value != [] for value in columns.get(column, ())):
            raise ValueError(
                f"`{name}` must get text only, got the column {column!r}. Use a reward function that reads images."
            )
    for column, values in (("prompts", prompts), ("completions", completions)):
        for index, value in enumerate(values):
            if not isinstance(value, str) and (not is_chat(value) or len(value)):
                read_prompt(value, f"{column}[{index}]")


def final_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """
    Return the text of a completion: of messages, the last one if it is the assistant's, else `""`.

    A multi-turn completion that ends with a tool's result was cut before its answer, so it has none.

    Args:
        completion (`str` or messages): Completion.

    Raises:
        ValueError: If the messages have other parts than text.

    Example:
    ```python
    >>> final_text([{"role": "tool", "content": "12"}, {"role": "assistant", "content": "It is 12."}])
    'It is 12.'
    ```
    """
    if isinstance(completion, str) or len(completion) == 0:
        return completion if isinstance(completion, str) else ""
    last = read_prompt(completion, "completion")[-1]
    return (last.get("content") or "") if last["role"] == "assistant" else ""  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType, reportCallIssue]


def text_key(value: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a prompt or completion as text that identifies it: unchanged, or messages as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
