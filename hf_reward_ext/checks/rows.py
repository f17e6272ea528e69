"""Tokenization of rows of all common kinds, as in TRL's reward functions."""

from collections.abc import Iterable, Mapping

_COLUMNS = ("completion", "chosen", "rejected")


def encode_rows(tokenizer, rows: Iterable) -> list[list[int]]:
    """
    Tokenize every text in the rows, without special tokens other than those of the chat template.

    Args:
        tokenizer: Tokenizer of the reward model.
        rows (`Dataset` or `list`): Strings, or `dict`s with `text`, `completion`, or `chosen` and `rejected`, with an
            optional `prompt`; values are strings or message lists.

    Returns:
        `list[list[int]]`: Token ids of each text; a preference pair gives two texts.

    Raises:
        ValueError: If there are no rows, a row has none of the columns, or a text has fewer than two tokens.
    """
    texts = [text for row in rows for text in _texts(tokenizer, row)]
    if not texts:
        raise ValueError("`rows` must not be empty. Pass a few texts of any length.")
    encoded = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    for text, ids in zip(texts, encoded, strict=True):
        if len(ids) < 2:
            raise ValueError(
                f"The text {text!r} has {len(ids)} token, but rewards are compared on prompts with completions. Leave "
                "such rows out."
            )
    return encoded


def _texts(tokenizer, row) -> list[str]:
    if isinstance(row, str):
        return [row]
    if isinstance(row, Mapping) and "text" in row:
        return [row["text"]]
    columns = [name for name in _COLUMNS if isinstance(row, Mapping) and row.get(name) is not None]
    if not columns:
        given = sorted(row) if isinstance(row, Mapping) else type(row).__name__
        raise ValueError(
            f"A row must have `text`, `completion`, or `chosen` and `rejected`, got {given}. Rename its columns."
        )
    return [_joined(tokenizer, row.get("prompt"), row[name]) for name in columns]


def _joined(tokenizer, prompt, completion) -> str:
    if not isinstance(completion, str):
        return tokenizer.apply_chat_template(list(prompt or []) + list(completion), tokenize=False)
    if prompt is None or isinstance(prompt, str):
        return (prompt or "") + completion
    messages = [*prompt, {"role": "assistant", "content": completion}]
    return tokenizer.apply_chat_template(messages, tokenize=False)
