"""Conversion of preference rows of any form to prompt, chosen and rejected, all text or all messages."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from unicodedata import east_asian_width

from hf_reward_ext.base.preference.validation import (
    Messages,
    is_chat,
    naming_row,
    read_completion,
    read_ids,
    read_mask,
    read_number,
    read_prompt,
    read_template_kwargs,
)

logger = logging.getLogger(__name__)
_SIDES = ("chosen", "rejected")


class Pair(NamedTuple):
    """
    A preference pair: three texts, or three lists of messages.

    Args:
        prompt (`str` or messages): Prompt of both completions.
        chosen, rejected (`str` or messages): Completions of the prompt.
        template_kwargs (`dict`): Arguments of the chat template.
    """

    prompt: str | Messages
    chosen: str | Messages
    rejected: str | Messages
    template_kwargs: dict[str, Any]


class PairIds(NamedTuple):
    """
    A tokenized preference pair.

    Args:
        prompt_ids (`list[int]`, *optional*): Tokens of the prompt; `None` if the sides include them.
        chosen_ids, rejected_ids (`list[int]`): Tokens of the sides.
        chosen_mask, rejected_mask (`list[int]`, *optional*): Masks over prompt and side, 1 on scored tokens.
    """

    prompt_ids: list[int] | None
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_mask: list[int] | None
    rejected_mask: list[int] | None


def read_pair(row: Mapping) -> Pair:
    """
    Return the pair in a row of text or messages.

    Args:
        row (`dict`): `{prompt, chosen, rejected}`, or `{chosen, rejected}` with the prompt as their shared beginning.
            If one value is a chat, a text prompt must be one of the messages that both sides begin with (as in
            UltraFeedback), and text sides are the assistant's messages. Optional: `tools`, `chat_template_kwargs`,
            `margin`.

    Raises:
        ValueError: If a value is missing or malformed, the sides have two forms or share no prompt; the column is
            named.

    Example:
    ```python
    >>> read_pair({"chosen": "2+2=4", "rejected": "2+2=5"})
    Pair(prompt='2+2=', chosen='4', rejected='5', template_kwargs={})
    ```
    """
    _check_text_only(row)
    missing = [side for side in _SIDES if side not in row]
    if missing:
        raise ValueError(f"`{missing[0]}` is missing; a preference pair has 'chosen' and 'rejected'.")
    prompt = read_prompt(row["prompt"]) if "prompt" in row else ""
    chosen, rejected = (read_completion(row[side], side, prompt) for side in _SIDES)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise ValueError(
            "`chosen` and `rejected` must have one form, got a text and a list of messages; make both texts or both "
            "messages."
        )
    if row.get("margin") is not None:
        read_number(row["margin"], "margin")
    kwargs = read_template_kwargs(row)
    if "prompt" not in row:
        split = _split_texts if isinstance(chosen, str) else _split_chats
        prompt, chosen, rejected = split(chosen, rejected)  # pyright: ignore[reportArgumentType]
    elif not isinstance(prompt, str):
        prompt, chosen, rejected = _follow_chat(prompt, chosen, rejected)
    elif not isinstance(chosen, str):
        prompt, chosen, rejected = _find_prompt(prompt, *_split_chats(chosen, rejected))  # pyright: ignore[reportArgumentType]
    if kwargs and not is_chat(prompt):
        raise ValueError(
            f"`{next(iter(kwargs))}` must be of a chat, got texts, which no template renders; remove the column, or "
            "give messages."
        )
    return Pair(prompt, chosen, rejected, kwargs)


def read_pair_ids(row: Mapping) -> PairIds:
    """
    Return the pair in a row of token ids.

    Args:
        row (`dict`): `{prompt_ids, chosen_ids, rejected_ids}` with optional `chosen_mask` and `rejected_mask`, or
            `{chosen_ids, rejected_ids}` (also `chosen_input_ids`, `rejected_input_ids`) of prompt and completion.

    Raises:
        ValueError: If a value is missing or malformed; the column is named.
    """
    columns = [next((name for name in (f"{side}_ids", f"{side}_input_ids") if name in row), "") for side in _SIDES]
    chosen, rejected = (read_ids(row[column], column) for column in columns)
    if row.get("margin") is not None:
        read_number(row["margin"], "margin")
    if row.get("prompt_ids") is None:
        return PairIds(None, chosen, rejected, None, None)
    prompt = read_ids(row["prompt_ids"], "prompt_ids")
    masks = [
        None if row.get(f"{side}_mask") is None else read_mask(row[f"{side}_mask"], f"{side}_mask", len(prompt + ids))
        for side, ids in zip(_SIDES, (chosen, rejected), strict=True)
    ]
    return PairIds(prompt, chosen, rejected, *masks)


def has_pair_ids(columns: Iterable[str]) -> bool:
    """Return whether the columns are those of tokenized pairs."""
    given = set(columns)
    return {"chosen_ids", "rejected_ids"} <= given or {"chosen_input_ids", "rejected_input_ids"} <= given


def check_pairs(rows: Iterable[Mapping], name: str, read: Callable[[Mapping], Pair | PairIds] | None = None) -> None:
    """
    Check all rows of preference data before any work.

    Args:
        rows (`Dataset` or `list[dict]`): Rows of text, messages or ids.
        name (`str`): Name of the data.
        read (`callable`, *optional*): Function from a row to its pair. Default: [`read_pair`], or [`read_pair_ids`] for
            ids.

    Raises:
        ValueError: If there are no rows, one is malformed (its number and column are named), or all of several rows
            have equal sides.
    """

    def has_equal_sides(row: Mapping) -> bool:
        pair = read(row) if read else read_pair_ids(row) if has_pair_ids(row) else read_pair(row)
        return pair[1] == pair[2]

    num_rows, num_equal = check_rows(rows, has_equal_sides, name)
    if num_equal == num_rows > 1:
        raise ValueError(
            f"`chosen` and `rejected` must differ, but they are equal in all {num_rows} rows of the {name} data, so "
            "nothing can be learned. Check how the columns were made."
        )
    if num_equal:
        logger.warning("%d of %d %s pairs have equal sides, which teach nothing.", num_equal, num_rows, name)


def check_rows(rows: Iterable[Mapping], read: Callable[[Mapping], Any], name: str) -> tuple[int, int]:
    """
    Read every row, and log the number of repeated rows.

    Args:
        rows (`Dataset` or `list[dict]`): The rows.
        read (`callable`): Function of a row that raises a `ValueError` naming the column.
        name (`str`): Name of the data.

    Returns:
        Number of rows, and number of rows for which `read` returned a true value.

    Raises:
        ValueError: If there are no rows, or `read` raises; the row is named.
    """
    seen: Counter[int] = Counter()
    num_marked = 0
    with_margin = None
    for number, row in enumerate(rows):
        with naming_row(number, name):
            num_marked += bool(read(row))
            has_margin = row.get("margin") is not None
            if has_margin != (has_margin if with_margin is None else with_margin):
                raise ValueError("`margin` must be a number in all rows or in none; give rows without one a 0.")
            with_margin = has_margin
        seen[hash(repr(row))] += 1
    if not seen:
        raise ValueError(f"The {name} data has no rows. Pass a dataset with at least one.")
    num_repeated = seen.total() - len(seen)
    if num_repeated:
        logger.info("%d of %d %s rows repeat an earlier one.", num_repeated, seen.total(), name)
    return seen.total(), num_marked


def _check_text_only(row: Mapping) -> None:
    for column in ("images", "image"):
        if row.get(column):
            raise ValueError(f"`{column}` must be empty: rewards here are of text. Leave the row out.")


def _split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    length = next(
        (index for index, (left, right) in enumerate(zip(chosen, rejected, strict=False)) if left != right),
        min(len(chosen), len(rejected)) - 1,  # neither side may become empty
    )
    while length and any(_in_word(text[length - 1 : length + 1]) for text in (chosen, rejected)):
        length -= 1
    if length and chosen[length - 1] == " ":
        length -= 1  # tokens include the space before them
    if length == 0:
        raise ValueError(
            "`chosen` and `rejected` must begin with their prompt, got texts that share no beginning; add a column "
            "'prompt', or leave the row out."
        )
    return chosen[:length], chosen[length:], rejected[length:]


def _in_word(between: str) -> bool:
    """Return whether two characters belong to one word or number; never in scripts without spaces."""
    return len(between) == 2 and all(one.isalnum() and east_asian_width(one) not in "WF" for one in between)


def _split_chats(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    most = min(len(chosen), len(rejected)) - 1  # the last message of each side is its completion
    length = next((index for index in range(most) if chosen[index] != rejected[index]), most)
    if length == 0:
        raise ValueError(
            "`chosen` and `rejected` must begin with their prompt, got chats that share no first message; add a column "
            "'prompt', or leave the row out."
        )
    apart = {side[length]["role"] for side in (chosen, rejected)}
    if apart != {"assistant"}:
        raise ValueError(
            f"`chosen` and `rejected` must part at an assistant's message, got {sorted(apart)} at message {length}: "
            "they answer two prompts. Leave the row out."
        )
    return chosen[:length], chosen[length:], rejected[length:]


def _find_prompt(text: str, prompt: Messages, chosen: Messages, rejected: Messages):
    if text.strip() not in [(message.get("content") or "").strip() for message in prompt]:
        raise ValueError(
            "`prompt` must be the text of a message that both sides begin with, got another; give the prompt as "
            "messages, or remove the column."
        )
    return prompt, chosen, rejected


def _follow_chat(prompt: Messages, chosen, rejected) -> tuple[Messages, Messages, Messages]:
    """Return the sides as messages that follow the messages of the prompt."""
    if isinstance(chosen, str):
        return prompt, *([{"role": "assistant", "content": side}] for side in (chosen, rejected))  # pyright: ignore[reportReturnType]
    whole = [side[: len(prompt)] == prompt and len(side) > len(prompt) for side in (chosen, rejected)]
    if all(whole):
        return prompt, chosen[len(prompt) :], rejected[len(prompt) :]
    return prompt, chosen, rejected
