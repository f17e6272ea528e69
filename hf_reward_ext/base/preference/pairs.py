"""Tokenization of text and chat data: prompt, completions, and masks of the tokens that count."""

from collections.abc import Mapping
from functools import partial
from typing import cast

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.preference.chat import Span, common_prefix, encode_chat, render_chat, warn_of_other_tokens
from hf_reward_ext.base.preference.datasets import (
    columns_of,
    drop_long_rows,
    plain_dataset,
    rows_to_check,
    tokenize_rows,
)
from hf_reward_ext.base.preference.rows import PairIds, check_pairs, has_pair_ids, read_pair, read_pair_ids
from hf_reward_ext.base.preference.validation import (
    Messages,
    is_chat,
    read_completion,
    read_prompt,
    read_template_kwargs,
)

_SIDES = ("chosen", "rejected")


def tokenize_prompt(prompt, processing_class, **chat_template_kwargs) -> list[int]:
    """
    Return the ids of a prompt as passed to `generate`.

    Text is tokenized unchanged. Messages are rendered with the generation prompt; if the last one is the
    assistant's, it is the beginning of the answer.

    Args:
        prompt (`str` or messages): The prompt.
        processing_class (`PreTrainedTokenizerBase`): The tokenizer.
        **chat_template_kwargs: Arguments of `apply_chat_template` (`tools`, ...).

    Raises:
        ValueError: If the prompt is malformed or empty, or the template refuses it.

    Example:
    ```python
    >>> tokenize_prompt([{"role": "user", "content": "Hi"}], tokenizer)
    ```
    """
    prompt = read_prompt(prompt)
    if isinstance(prompt, str):
        return _text_ids(prompt, processing_class)
    if prompt[-1]["role"] == "assistant":  # the last message is the beginning of the answer
        return render_chat(prompt, processing_class, continue_final_message=True, **chat_template_kwargs)
    return render_chat(prompt, processing_class, add_generation_prompt=True, **chat_template_kwargs)


def tokenize_completion(prompt, completion, processing_class, **chat_template_kwargs) -> tuple[list[int], list[int]]:
    """
    Return the ids of a prompt and of its completion, EOS included.

    Args:
        prompt (`str` or messages): The prompt.
        completion (`str` or messages): Text, to which EOS is added if it is missing, or messages of which the last is
            the assistant's; earlier ones belong to the prompt.
        processing_class (`PreTrainedTokenizerBase`): The tokenizer.
        **chat_template_kwargs: Arguments of `apply_chat_template` (`tools`, ...).

    Returns:
        `(prompt_ids, completion_ids)`, which together are the ids of the whole text. Anything that a chat template adds
        after the last EOS (such as a newline) is removed, because `generate` never produces it.

    Raises:
        ValueError: If prompt or completion is malformed or empty, or the last message is not the assistant's.
    """
    prompt = read_prompt(prompt)
    completion = read_completion(completion, prompt=prompt)
    ids, spans = _encode(prompt, completion, processing_class, turns="last", **chat_template_kwargs)
    start, end = spans[-1]
    return ids[:start], ids[start:end]


def tokenize_preference(
    example: Mapping, processing_class, turns: str = "last", **chat_template_kwargs
) -> dict[str, list[int]]:
    """
    Return the ids of a preference pair in any of TRL's formats.

    Args:
        example (`dict`): A row of text or messages, see [`read_pair`], or of ids, see [`read_pair_ids`].
        processing_class (`PreTrainedTokenizerBase`): The tokenizer.
        turns (`str`, *optional*, defaults to `"last"`): Assistant turns of a chat that are scored, `"last"` or `"all"`.
        **chat_template_kwargs: Arguments of `apply_chat_template`; arguments in the row take precedence.

    Returns:
        `dict` with `prompt_ids` (shared by both), `chosen_ids`, `rejected_ids`, and for chats `chosen_mask` and
        `rejected_mask`: masks over prompt and completion with 1 on scored tokens.

    Raises:
        ValueError: If the row is malformed; the column is named.

    Example:
    ```python
    >>> tokenize_preference({"prompt": "2+2=", "chosen": "4", "rejected": "5"}, tokenizer)
    {'prompt_ids': [...], 'chosen_ids': [...], 'rejected_ids': [...]}
    ```
    """
    if has_pair_ids(example):
        return _split_ids(read_pair_ids(example), example, processing_class, **chat_template_kwargs)
    pair = read_pair(example)
    kwargs = {**chat_template_kwargs, **pair.template_kwargs}
    (chosen, chosen_spans), (rejected, rejected_spans) = (
        _encode(pair.prompt, side, processing_class, turns, **kwargs) for side in (pair.chosen, pair.rejected)
    )
    # Even if both completions begin alike, a completion starts at its turn.
    shared = min(common_prefix(chosen, rejected), chosen_spans[-1][0], rejected_spans[-1][0])
    row = {"prompt_ids": chosen[:shared], "chosen_ids": chosen[shared:], "rejected_ids": rejected[shared:]}
    if is_chat(pair.prompt):
        row["chosen_mask"] = _mask(chosen_spans)
        row["rejected_mask"] = _mask(rejected_spans)
    return row


def prepare_preference_dataset(
    dataset: Dataset | IterableDataset,
    processing_class,
    *,
    max_length: int | None = None,
    turns: str = "last",
    num_proc: int | None = None,
    name: str = "train",
    chat_template_kwargs: dict | None = None,
) -> Dataset | IterableDataset:
    """
    Tokenize preference rows of any format into `prompt_ids`, `chosen_ids`, `rejected_ids` (and masks for chats).

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows of [`tokenize_preference`].
        processing_class (`PreTrainedTokenizerBase`): The tokenizer.
        max_length (`int`, *optional*): Maximum number of tokens of prompt and completion; longer pairs are dropped, and
            their number is logged.
        turns (`str`, *optional*): As for [`tokenize_preference`].
        num_proc (`int`, *optional*): Number of processes for a map-style dataset.
        name (`str`, *optional*): Name of the data, for messages.
        chat_template_kwargs (`dict`, *optional*): Arguments of `apply_chat_template`; arguments in a row take
            precedence.

    Raises:
        TypeError: If `dataset` is no dataset.
        ValueError: If columns are missing, a row is malformed (its number and column are named), the tokenizer has no
            EOS, or no pair is left.
    """
    dataset = plain_dataset(dataset, name)
    check_pair_columns(columns_of(dataset), name)
    check_tokenizer(processing_class, turns)
    tokenize = partial(
        tokenize_preference, processing_class=processing_class, turns=turns, **(chat_template_kwargs or {})
    )
    return drop_long_rows(tokenize_rows(dataset, tokenize, num_proc=num_proc, name=name), _num_tokens, max_length, name)


def check_preference_rows(dataset: Dataset | IterableDataset, name: str) -> None:
    """
    Check all rows of a map-style dataset, and the first of a stream, before anything is loaded.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows of [`tokenize_preference`].
        name (`str`): Name of the data.

    Raises:
        TypeError: If `dataset` is no dataset.
        ValueError: If columns are missing, a row is malformed (its number and column are named), or all rows have
            equal sides.
    """
    dataset = plain_dataset(dataset, name)
    check_pair_columns(columns_of(dataset), name)
    check_pairs(rows_to_check(dataset), name)


def check_pair_columns(columns, name: str) -> None:
    """
    Reject data without pairs.

    Raises:
        ValueError: If there are neither texts nor ids of pairs.
    """
    if not (has_pair_ids(columns) or set(_SIDES) <= set(columns)):
        raise ValueError(
            f"The {name} data has the columns {sorted(columns)}, but preference pairs need 'chosen' and 'rejected', "
            "with 'prompt' or with the prompt as their shared beginning. Rename the columns."
        )


def check_tokenizer(processing_class, turns: str = "last") -> None:
    """
    Reject a tokenizer or an option that cannot encode completions.

    Raises:
        ValueError: If the tokenizer has no EOS token, or `turns` is unknown.
    """
    if processing_class.eos_token_id is None:
        raise ValueError("The tokenizer has no EOS token, but completions end with one. Set `tokenizer.eos_token`.")
    if turns not in ("last", "all"):
        raise ValueError(f"`turns` must be 'last' or 'all', got {turns!r}. Choose one.")


def check_vocabulary(ids_by_column: Mapping[str, list[int] | None], processing_class) -> None:
    """
    Reject ids of another tokenizer.

    Raises:
        ValueError: If an id is beyond the vocabulary; the column is named.
    """
    for column, ids in ids_by_column.items():
        if ids and max(ids) >= len(processing_class):
            raise ValueError(
                f"`{column}` must hold ids of the tokenizer's {len(processing_class)} tokens, got {max(ids)}; tokenize "
                "with this model's tokenizer."
            )


def _num_tokens(row: dict) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _split_ids(pair: PairIds, row: Mapping, processing_class, **chat_template_kwargs) -> dict[str, list[int]]:
    check_vocabulary(dict(zip(pair._fields[:3], pair[:3], strict=True)), processing_class)
    if pair.prompt_ids is not None:
        return {column: value for column, value in pair._asdict().items() if value is not None}
    start = _start_of_sides(pair, row, processing_class, **chat_template_kwargs)
    return {
        "prompt_ids": pair.chosen_ids[:start],
        "chosen_ids": pair.chosen_ids[start:],
        "rejected_ids": pair.rejected_ids[start:],
    }


def _start_of_sides(pair: PairIds, row: Mapping, processing_class, **chat_template_kwargs) -> int:
    """Return the start of the completions in ids that include the prompt."""
    shared = common_prefix(pair.chosen_ids, pair.rejected_ids)
    start = min(shared, len(pair.chosen_ids) - 1, len(pair.rejected_ids) - 1)
    if row.get("prompt"):
        kwargs = {**chat_template_kwargs, **(read_template_kwargs(row) if is_chat(row["prompt"]) else {})}
        prompt_ids = tokenize_prompt(row["prompt"], processing_class, **kwargs)
        start = min(start, common_prefix(prompt_ids, pair.chosen_ids))
        # A few tokens at the end may differ, because a completion follows.
        start = 0 if 2 * start < len(prompt_ids) else start
    if start == 0:
        raise ValueError(
            "`chosen_ids` and `rejected_ids` must begin with the prompt's tokens, got ids that do not; add a column "
            "'prompt_ids', or leave the row out."
        )
    return start


def _encode(prompt, completion, processing_class, turns: str, **kwargs) -> tuple[list[int], list[Span]]:
    """Return the ids of the whole text and the scored spans; the last span is the completion."""
    check_tokenizer(processing_class, turns)
    if isinstance(prompt, str) and isinstance(completion, str):
        return _encode_text(prompt, completion, processing_class)
    if isinstance(prompt, str):
        raise ValueError(
            "`prompt` must be messages where the completion is, got a text; pass "
            "`[{'role': 'user', 'content': prompt}]`."
        )
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    return encode_chat(cast(Messages, [*prompt, *completion]), processing_class, turns, **kwargs)


def _encode_text(prompt: str, completion: str, processing_class) -> tuple[list[int], list[Span]]:
    eos = processing_class.eos_token
    ids = _text_ids(prompt + completion + ("" if completion.endswith(eos) else eos), processing_class)
    prompt_ids = _text_ids(prompt, processing_class)
    if prompt_ids[-1:] == [processing_class.eos_token_id] and not prompt.endswith(eos):
        prompt_ids = prompt_ids[:-1]  # some tokenizers end every text with EOS
    start = common_prefix(prompt_ids, ids)
    if start == 0:
        raise ValueError(
            f"`prompt` must have a token of its own, but {prompt!r} becomes one token with its completion; end it "
            "with a space or a line break."
        )
    if start < len(prompt_ids):
        warn_of_other_tokens(processing_class.decode(prompt_ids[start:]))
    return ids, [(start, len(ids))]


def _text_ids(text: str, processing_class) -> list[int]:
    """Return the ids of a text, with a single BOS and EOS even if both the text and the tokenizer add them."""
    ids = list(processing_class(text)["input_ids"])
    doubles_bos = len(ids) > 1 and ids[0] == ids[1] == processing_class.bos_token_id
    doubles_eos = len(ids) > 1 and ids[-1] == ids[-2] == processing_class.eos_token_id
    if not doubles_bos and not doubles_eos:
        return ids
    # Two in the text itself are the text's: a prompt that ends with EOS before a completion that is EOS.
    own = list(processing_class(text, add_special_tokens=False)["input_ids"])
    if doubles_bos and ids[1 : 1 + len(own)] == own:
        ids = ids[1:]
    if doubles_eos and ids[-1 - len(own) : -1] == own:
        ids = ids[:-1]
    return ids


def _mask(spans: list[Span]) -> list[int]:
    mask = [0] * spans[-1][1]
    for start, end in spans:
        mask[start:end] = [1] * (end - start)
    return mask
