"""Chats as token ids, with the span of each assistant turn."""

import json
import logging
from collections.abc import Callable
from functools import lru_cache

from jinja2 import TemplateError

logger = logging.getLogger(__name__)
Span = tuple[int, int]


def render_chat(messages: list[dict], processing_class, add_generation_prompt: bool = False, **kwargs) -> list[int]:
    """
    Return the ids of a chat, rendered by the tokenizer's chat template.

    Args:
        messages (`list[dict]`): The chat.
        processing_class (`PreTrainedTokenizerBase`): A tokenizer with a chat template.
        add_generation_prompt (`bool`, *optional*): Whether to append the header of an assistant turn.
        **kwargs: Arguments of `apply_chat_template` (`tools`, ...).

    Raises:
        ValueError: If the template cannot render these messages, or there is no template.
    """
    if processing_class.chat_template is None:
        raise ValueError(
            f"A chat must be rendered by a template, but this `{type(processing_class).__name__}` has none. Set "
            "`tokenizer.chat_template` (a trainer's `chat_template_path`), or give texts instead of messages."
        )
    if _wants_parts(processing_class, processing_class.chat_template):
        messages = [_in_parts(message) for message in messages]
    try:
        return _apply(messages, processing_class, add_generation_prompt, **kwargs)
    # Templates fail by `raise_exception`, by fields that a message lacks, or inside Python: `'...' + None`.
    except (TemplateError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(
            f"The chat template refuses a chat of the roles {[message['role'] for message in messages]}: {error}. "
            "Change the messages, or choose another template."
        ) from error


def encode_chat(messages: list[dict], processing_class, turns: str, **kwargs) -> tuple[list[int], list[Span]]:
    """
    Return the ids of a chat and the spans of its assistant turns, each up to its end-of-turn token.

    A template may render an earlier turn differently from the last one (Qwen3 removes its thinking), so spans are
    located in the rendering of the whole chat.

    Args:
        messages (`list[dict]`): A chat that ends with the assistant's message.
        processing_class (`PreTrainedTokenizerBase`): Tokenizer.
        turns (`str`): `"last"` or `"all"`.
        **kwargs: Arguments of `apply_chat_template`.

    Returns:
        `(ids, spans)`; ids end with the last span. Anything that a template adds after the end of the turn is never
        generated and is left out.

    Raises:
        ValueError: If the template renders nothing for a selected turn.
    """

    def render(messages: list[dict], add_generation_prompt: bool = False) -> list[int]:
        return render_chat(messages, processing_class, add_generation_prompt, **kwargs)

    ids = render(messages)
    _check_tools_are_written(messages, ids, render)
    counted = [index for index, message in enumerate(messages) if message["role"] == "assistant" and index > 0]
    spans = []
    for index in counted if turns == "all" else counted[-1:]:
        start = _start_of_turn(messages, index, ids, render, processing_class)
        end = _end_of_turn(messages, index, ids, start, render, processing_class)
        if end <= start:
            raise ValueError(
                f"The chat template writes nothing for message {index} ({messages[index]['role']}). Choose a template "
                "that renders every turn (TRL has training templates), or `turns='last'`."
            )
        spans.append((start, end))
    return ids[: spans[-1][1]], spans


def common_prefix(ids: list[int], other_ids: list[int]) -> int:
    """Return the number of leading ids that two sequences share."""
    for index, (left, right) in enumerate(zip(ids, other_ids, strict=False)):
        if left != right:
            return index
    return min(len(ids), len(other_ids))


@lru_cache(maxsize=64)
def warn_of_other_tokens(text: str) -> None:
    """
    Warn once per ending that the end of a prompt is tokenized differently before a completion.

    Args:
        text (`str`): Ending of the prompt that is missing when the completion follows.
    """
    logger.warning(
        "A prompt alone ends with %r, but the prompt with its completion does not, so the completion begins before it. "
        "End prompts at a token boundary, or choose a chat template that renders both alike.",
        text,
    )


def _apply(messages: list[dict], processing_class, add_generation_prompt: bool = False, **kwargs) -> list[int]:
    rendered = processing_class.apply_chat_template(
        list(messages), tokenize=True, return_dict=True, add_generation_prompt=add_generation_prompt, **kwargs
    )
    return list(rendered["input_ids"])


@lru_cache(maxsize=8)
def _wants_parts(processing_class, chat_template: str) -> bool:
    """Return whether a template ignores plain text but renders text parts, as those of some multimodal models."""
    probes = [[{"role": "user", "content": text}] for text in ("0", "1")]
    try:
        if _apply(probes[0], processing_class) != _apply(probes[1], processing_class):
            return False
    except (TemplateError, TypeError, KeyError, AttributeError, IndexError):
        pass
    parts = [[_in_parts(message) for message in probe] for probe in probes]
    try:
        return _apply(parts[0], processing_class) != _apply(parts[1], processing_class)
    except (TemplateError, TypeError, KeyError, AttributeError, IndexError):
        return False


def _in_parts(message: dict) -> dict:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _check_tools_are_written(messages: list[dict], ids: list[int], render: Callable) -> None:
    for index, message in enumerate(messages):
        if (message.get("tool_calls") or message["role"] == "tool") and render(_replaced(messages, index)) == ids:
            what = "calls" if message.get("tool_calls") else "results"
            raise ValueError(
                f"The chat template writes nothing of the tool {what} in message {index}, so nothing is learned from "
                "them. Choose a template that writes them, or write them into `content`."
            )


def _common_suffix(ids: list[int], other_ids: list[int]) -> int:
    return common_prefix(ids[::-1], other_ids[::-1])


def _start_of_turn(messages: list[dict], index: int, ids: list[int], render: Callable, processing_class) -> int:
    prompt = render(messages[:index], True)
    start = common_prefix(prompt, ids)
    if start == len(prompt):
        return start
    if index == len(messages) - 1:
        warn_of_other_tokens(processing_class.decode(prompt[start:]))
        return start
    # The prompt alone may be rendered differently (thinking of earlier turns): the text between the previous message
    # there, its end and the assistant's header, is looked for after the same message in the whole.
    before = _replaced(messages, index - 1)
    header = prompt[len(prompt) - _common_suffix(prompt, render(before[:index], True)) :]
    after = len(ids) - _common_suffix(ids, render(before))
    return after + common_prefix(header, ids[after:])


def _end_of_turn(
    messages: list[dict], index: int, ids: list[int], start: int, render: Callable, processing_class
) -> int:
    eos = processing_class.eos_token_id
    if processing_class.eos_token in str(messages[index].get("content")):
        # EOS that the text itself holds is no end of the turn.
        start = max(start, len(ids) - _common_suffix(ids, render(_replaced(messages, index))))
    if index == len(messages) - 1:
        return _after_last_eos(ids, start, len(ids), eos)
    alone = render(messages[: index + 1])
    if common_prefix(alone, ids) == len(alone):
        return _after_last_eos(ids, start, len(alone), eos)
    # The next message begins after the turn, and its header has no EOS.
    limit = common_prefix(ids, render(_replaced(messages, index + 1)))
    end = _after_last_eos(ids, start, limit, eos)
    if end > start and ids[end - 1] == eos:
        return end
    return _after_closing(messages, index, ids, alone, limit, render, processing_class)


def _after_closing(messages, index, ids, alone, limit, render, processing_class) -> int:
    """Return the end of a turn without EOS: the tokens that close it as the last turn are searched after its text."""
    other = _replaced(messages, index)
    closing = alone[len(alone) - _common_suffix(alone, render(other[: index + 1])) :]
    end = len(ids) - _common_suffix(ids, render(other))
    length = common_prefix(closing, ids[end:limit])
    if length == 0 and end < limit and ids[end] in special_ids(processing_class):
        length = 1  # the template closes this turn with another token than the last turn (gpt-oss)
    return end + length


def _replaced(messages: list[dict], index: int) -> list[dict]:
    """Return the chat with another ending of one message: of its text, or of the arguments of its last tool call."""
    message = messages[index]
    if message.get("tool_calls"):
        *calls, last = message["tool_calls"]
        function = last.get("function", last)
        arguments = {"a": 1} if function["arguments"] in ({"a": 0}, '{"a": 0}') else {"a": 0}
        as_text = isinstance(function["arguments"], str)
        changed = {**function, "arguments": json.dumps(arguments) if as_text else arguments}
        other = {"tool_calls": [*calls, {**last, "function": changed} if "function" in last else changed]}
    else:
        other = {"content": "1" if str(message.get("content") or "").rstrip().endswith("0") else "0"}
    return [*messages[:index], {**message, **other}, *messages[index + 1 :]]


def _after_last_eos(ids: list[int], start: int, end: int, eos_token_id: int) -> int:
    for position in range(end - 1, start - 1, -1):
        if ids[position] == eos_token_id:
            return position + 1
    return end


def special_ids(processing_class) -> set[int]:
    """Return the ids of all special tokens of a tokenizer, named (`eos_token`) or added (headers of a chat)."""
    added = {number for number, token in processing_class.added_tokens_decoder.items() if token.special}
    return added.union(processing_class.all_special_ids)
