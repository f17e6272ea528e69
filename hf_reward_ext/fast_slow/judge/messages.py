"""Conversion of prompts and responses to the plain text that a judge reads."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_TEXT_PARTS = ("text", "input_text", "output_text")
# Fields of a message in addition to its content. `None` and empty values count as absent, as in Arrow tables.
_READ = {"role", "content", "tool_calls", "function_call", "name", "reasoning_content", "thinking"}
_IGNORED = {"tool_call_id", "id", "index", "type", "weight", "finish_reason"}


def plain_text(value: str | Sequence[Mapping[str, Any]]) -> str:
    """
    Return a prompt or response as text: unchanged, as its only message, or as all messages with their roles.

    Content parts are joined, tool calls become JSON, and messages without content are left out.

    Args:
        value (`str` or messages): Prompt or response.

    Raises:
        TypeError: If it is neither a text nor a list of messages.
        ValueError: If there is no message, or a message contains anything other than text, such as an image.

    Example:
    ```python
    >>> plain_text([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    'Hi'
    ```
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not all(isinstance(message, Mapping) for message in value):
        raise TypeError(f"A prompt or response must be a text or a list of messages, got {_shown(value)}.")
    if len(value) == 0:
        raise ValueError("A prompt or response must have at least one message, got an empty list.")
    texts = [_message_text(message) for message in value]
    if len(texts) == 1:
        return texts[0] or ""
    named = zip(value, texts, strict=True)
    return "\n\n".join(f"{_speaker(message)}: {text}" for message, text in named if text is not None)


def _message_text(message: Mapping[str, Any]) -> str | None:
    """Return all text of a message, or `None` if it is empty."""
    given = {key: value for key, value in message.items() if value is not None and value != []}
    unknown = sorted(set(given) - _READ - _IGNORED)
    if unknown:
        raise ValueError(
            f"A message must hold text and tool calls only, got {unknown} too, which a judge of text cannot read. "
            "Leave them out, or write them into `content`."
        )
    if not isinstance(given.get("role"), str):
        raise ValueError(f"A message must have a 'role' and a 'content', got {_shown(message)}. Rename its keys.")
    parts = []
    thinking = given.get("reasoning_content") or given.get("thinking")
    if thinking:
        parts.append(f"<think>\n{thinking}\n</think>")
    if "content" in given:
        parts.append(_content_text(given["content"]))
    calls = _from_json(given.get("tool_calls", []))
    if not isinstance(calls, list):
        raise ValueError(f"`tool_calls` must be a list of calls, got {_shown(calls)}. Put the call into a list.")
    parts += [_call_text(call) for call in [*calls, *([given["function_call"]] if "function_call" in given else [])]]
    texts = [part for part in parts if part]
    return "\n".join(texts) if texts or "content" in given else None


def _content_text(content) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise ValueError(f"The content of a message must be a text or a list of parts, got {_shown(content)}.")
    return "".join(_part_text(part) for part in content)


def _part_text(part) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
        raise ValueError(
            f"A content part must be text, got one of type {kind!r}: judges read text only. Leave the row out, or "
            "describe the part in words."
        )
    return part["text"]


def _call_text(call) -> str:
    function = call.get("function") or call if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(
            "A tool call must be like {'type': 'function', 'function': {'name': ..., 'arguments': ...}}, got "
            f"{_shown(call)}."
        )
    arguments = _from_json(function.get("arguments"))
    return json.dumps({"name": function["name"], "arguments": _without_none(arguments or {})}, ensure_ascii=False)


def _speaker(message: Mapping[str, Any]) -> str:
    return f"{message['role']} {message['name']}" if message.get("name") else message["role"]


def _without_none(value):
    """Return arguments without the `None` values that Arrow adds for keys of other rows."""
    if isinstance(value, Mapping):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value


def _from_json(value):
    """Parse calls or arguments that are stored as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value  # shown unchanged: a malformed call is part of the response


def _shown(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
