"""Validation of the values in a row: prompts, completions, chats, ids and numbers. Errors name the column."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

ROLES = ("system", "developer", "user", "assistant", "tool")
Messages = list[dict[str, Any]]
_TEXT_PARTS = ("text", "input_text", "output_text")


@contextmanager
def naming_row(number: int, name: str):
    """
    Add the row number and the name of the data to errors about a row.

    Args:
        number (`int`): Index of the row, from 0.
        name (`str`): Name of the data ("train", say).

    Example:
    ```python
    >>> with naming_row(3, "train"):
    ...     read_prompt(None)
    ValueError: Row 3 of the train data: `prompt` must be text or a list of messages, got None; leave the row out.
    ```
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Row {number} of the {name} data: {error}") from error


def read_prompt(value, column: str = "prompt") -> str | Messages:
    """
    Return a prompt; messages are converted to the form that chat templates expect.

    Args:
        value (`str` or messages): Content parts of type `"text"` are joined.
        column (`str`, *optional*): Name of the column, for messages.

    Raises:
        ValueError: If it is neither text nor messages, or empty.
    """
    if value == "":
        raise ValueError(
            f"`{column}` must have text, got ''. An empty prompt asks nothing: leave the row out, or begin the text "
            "with the BOS token."
        )
    return _read_text_or_chat(value, column)


def read_completion(value, column: str = "completion", prompt: str | Messages = "") -> str | Messages:
    """
    Return a completion: text, or messages that end with an assistant message.

    Args:
        value (`str` or messages): Content parts of type `"text"` are joined.
        column (`str`, *optional*): Name of the column, for messages.
        prompt (`str` or messages, *optional*): Preceding prompt, for the message about wrong roles.

    Raises:
        ValueError: If it is neither, or empty, or the last message is not the assistant's.
    """
    completion = _read_text_or_chat(value, column)
    if isinstance(completion, str):
        if not completion.strip():
            raise ValueError(
                f"`{column}` must have text, got {completion!r}. An empty completion has nothing to reward: leave the "
                "row out."
            )
        return completion
    last = completion[-1]
    if last["role"] != "assistant":
        roles = [message["role"] for message in [*(prompt if is_chat(prompt) else []), *completion]]
        raise ValueError(
            f"`{column}` must end with the assistant's message, got the roles {roles}; change the messages, or leave "
            "the row out."
        )
    if not last.get("tool_calls") and not last["content"].strip():
        raise ValueError(
            f"`{column}` must have text, got an empty last message. An empty completion has nothing to reward: leave "
            "the row out."
        )
    return completion


def is_chat(*values) -> bool:
    """Return whether one of the values is a list of messages."""
    return any(isinstance(value, Sequence) and not isinstance(value, str) for value in values)


def read_template_kwargs(row: Mapping) -> dict[str, Any]:
    """
    Return the chat template arguments in a row: `tools` and `chat_template_kwargs`, as objects or JSON text.

    Raises:
        ValueError: If they have another form.
    """
    tools, kwargs = (_from_json(row.get(column), column) for column in ("tools", "chat_template_kwargs"))
    if tools is not None and not (_is_list(tools) and all(isinstance(tool, Mapping) for tool in tools)):
        raise ValueError(f"`tools` must be a list of JSON schemas, or such a list as JSON text, got {_shown(tools)}.")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ValueError(f"`chat_template_kwargs` must be a dictionary, got {_shown(kwargs)}.")
    given = {"tools": _without_none(tools) if tools else None, **(kwargs or {})}
    return {key: value for key, value in given.items() if value is not None}


def read_ids(value, column: str) -> list[int]:
    """
    Return token ids.

    Raises:
        ValueError: If they are not a list of integers from 0, or empty.
    """
    if not _is_list(value) or not all(isinstance(one, Integral) and not isinstance(one, bool) for one in value):
        raise ValueError(f"`{column}` must be a list of token ids, got {_shown(value)}; tokenize the row again.")
    if len(value) == 0:
        raise ValueError(f"`{column}` must not be empty; leave the row out.")
    if min(value) < 0:
        raise ValueError(f"`{column}` must hold ids from 0, got {min(value)}; tokenize the row again.")
    return [int(one) for one in value]


def read_mask(value, column: str, length: int) -> list[int]:
    """
    Return a mask over tokens.

    Raises:
        ValueError: If it is not 0 and 1, one for each token, with at least one 1.
    """
    if not _is_list(value) or any(one not in (0, 1) for one in value) or len(value) != length or not any(value):
        raise ValueError(
            f"`{column}` must be a list of {length} times 0 or 1 with at least one 1, got {_shown(value)}; make it "
            "as long as prompt and completion together."
        )
    return [int(one) for one in value]


def read_number(value, column: str) -> float:
    """
    Return a finite number: an `int`, `float` or `bool`, or one as text.

    Raises:
        ValueError: If it is something else, NaN or infinite.
    """
    try:
        number = float(value) if isinstance(value, Real | str) else None
    except ValueError:
        number = None
    if number is None or not math.isfinite(number):
        raise ValueError(f"`{column}` must be a finite number, got {_shown(value)}; correct it, or leave the row out.")
    return number


def _read_text_or_chat(value, column: str) -> str | Messages:
    if isinstance(value, str):
        return _read_text(value, column)
    if not _is_list(value):
        raise ValueError(
            f"`{column}` must be text or a list of messages, got {_shown(value)}; correct it, or leave the row out."
        )
    if len(value) == 0:
        raise ValueError(f"`{column}` must have text, got an empty list of messages; leave the row out.")
    return [_read_message(message, f"{column}[{index}]") for index, message in enumerate(value)]


def _read_text(value: str, column: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"`{column}` must be text that UTF-8 can hold, got {error.reason} ({value[error.start]!r}); correct it, or "
            "leave the row out."
        ) from error
    return value


def _read_message(message, name: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(
            f"`{name}` must be a message with 'role' and 'content', got {_shown(message)}; correct it, or leave the "
            "row out."
        )
    role = message["role"]
    if role not in ROLES:
        raise ValueError(f"`{name}` must have one of the roles {', '.join(ROLES)}, got {role!r}; rename it.")
    # Rows of Arrow tables have every key of any message, filled with None.
    read = {key: value for key, value in message.items() if value is not None}
    calls = _read_tool_calls(read.pop("tool_calls", None), role, name)
    if calls:
        read["tool_calls"] = calls
    content = message.get("content")
    if content is not None:
        read["content"] = _read_content(content, f"{name}['content']")
    elif calls:
        if "content" in message:
            read["content"] = None
    else:
        raise ValueError(f"`{name}['content']` must be text, got None; write a text, or leave the row out.")
    return read


def _read_content(content, name: str) -> str:
    if isinstance(content, str):
        return _read_text(content, name)
    if not _is_list(content) or not all(isinstance(part, Mapping | str) for part in content):
        raise ValueError(
            f"`{name}` must be text or a list of text parts, got {_shown(content)}; correct it, or leave the row out."
        )
    return "".join(_read_text(_part_text(part, name), name) for part in content)


def _part_text(part: Mapping | str, name: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text")
    if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
        raise ValueError(
            f"`{name}` must hold text parts only, got one of type {kind!r}: rewards here are of text. Leave the row "
            "out, or describe the rest in words."
        )
    return part["text"]


def _read_tool_calls(calls, role: str, name: str) -> list[dict]:
    calls = _from_json(calls, f"{name}['tool_calls']")
    if not calls:
        return []
    if role != "assistant":
        raise ValueError(f"`{name}['tool_calls']` must be the assistant's, got the role {role!r}; rename it.")
    name = f"{name}['tool_calls']"
    if not _is_list(calls):
        raise ValueError(f"`{name}` must be a list of calls, got {_shown(calls)}; put the call into a list.")
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ValueError(
                f"`{name}` must hold calls like {{'function': {{'name': ..., 'arguments': ...}}}}, got "
                f"{_shown(call)}; correct it, or leave the row out."
            )
    return [_with_arguments(_without_none(call)) for call in calls]


def _with_arguments(call: dict) -> dict:
    """Return a tool call with `arguments`, which templates read even if there are none."""
    if "function" in call:
        return {**call, "function": {"arguments": {}, **call["function"]}}
    return {"arguments": {}, **call}


def _without_none(value):
    """Return nested dictionaries without the `None` values that Arrow adds for keys of other rows."""
    if isinstance(value, Mapping):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if _is_list(value) else value


def _from_json(value, column: str):
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"`{column}` must be JSON where it is text, got {_shown(value)} ({error}); correct it."
        ) from error


def _is_list(value) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _shown(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}... ({type(value).__name__})"
