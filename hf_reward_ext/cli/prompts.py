"""Rows and prompts that commands read."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, cast

from hf_reward_ext.base.preference.validation import naming_row, read_prompt
from hf_reward_ext.cli.options import DataOptions, PromptOptions
from hf_reward_ext.cli.rows import load_rows

logger = logging.getLogger(__name__)


def read_data(options: DataOptions, *needed: tuple[str, ...]) -> Any:
    """Load the rows of `--data`, with the columns of one of the tuples."""
    rows = load_rows(cast(str, options.data), options.split, options.data_config, *needed)
    return rows.select(range(min(options.max_rows, len(rows)))) if options.max_rows else rows


def read_prompts(options: Any) -> list[dict]:
    """
    Read rows with `prompt`, all text or all messages.

    Args:
        options ([`PromptOptions`] and [`DataOptions`]): Source of the prompts.

    Raises:
        ValueError: If a row has none; the message names row and column.
    """
    prompts, column = options.prompt, "--prompt"
    if prompts is None:
        column = options.prompt_column
        prompts = read_data(options, (column,))[column]
    read = []
    for number, prompt in enumerate(prompts):
        with naming_row(number, "prompt"):
            read.append(read_prompt(prompt, column))
    kinds = {isinstance(prompt, str) for prompt in read}
    if len(kinds) > 1:
        forms = [isinstance(prompt, str) for prompt in read]
        raise ValueError(
            f"Row {forms.index(not forms[0])} of the prompt data: `{column}` must have the form of row 0, got text and "
            "messages. Write all in one form."
        )
    if options.chat and True in kinds:
        read = [[{"role": "user", "content": prompt}] for prompt in read]
    if options.system is not None:
        read = [_with_system(prompt, number, options.system) for number, prompt in enumerate(read)]
    return [{"prompt": prompt} for prompt in read]


def _with_system(prompt: str | list, number: int, system: str) -> list:
    """Return the messages of a prompt after a system message."""
    if isinstance(prompt, str) or prompt[0]["role"] == "system":
        found = "text" if isinstance(prompt, str) else "a chat that begins with one"
        raise ValueError(
            f"Row {number} of the prompt data: `--system` must go before a chat without a system message, got {found}. "
            "Add --chat for text, or leave --system out."
        )
    return [{"role": "system", "content": system}, *prompt]


def note_form(prompts: Sequence, tokenizer: Any, options: PromptOptions) -> None:
    """Log a note about whether prompts go through the tokenizer's chat template."""
    if tokenizer.chat_template is None:
        return
    if not isinstance(prompts[0], str):
        logger.info("Prompts go through the tokenizer's chat template.")
    elif options.chat is None:
        logger.warning(
            "Prompts are sent as plain text, although the tokenizer has a chat template: --chat sends them as a user's "
            "message, --no_chat hides this line."
        )


def check_room(lengths: Iterable[int], limit: int | None, max_new_tokens: int) -> None:
    """
    Reject prompts that leave no room for a completion, before any forward.

    Args:
        lengths (iterable of `int`): Number of tokens of each prompt.
        limit (`int`, *optional*): Maximum number of tokens of the model; `None` without a limit.
        max_new_tokens (`int`): Number of tokens of a completion.

    Raises:
        ValueError: For the first prompt that is too long; the message names the row.
    """
    for number, length in enumerate(lengths if limit is not None else ()):
        if length + max_new_tokens > cast(int, limit):
            raise ValueError(
                f"Row {number} of the prompt data: the prompt must leave room for `--max_new_tokens {max_new_tokens}` "
                f"in a context of {limit} tokens, got {length} tokens. Shorten it, or lower --max_new_tokens."
            )
