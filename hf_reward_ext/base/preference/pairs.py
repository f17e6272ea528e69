"""Text and chat data become token ids: prompt, completions, and which tokens count."""

import json
import logging
from typing import cast

from datasets import Dataset, IterableDataset
from trl import extract_prompt, is_conversational

logger = logging.getLogger(__name__)
_PAIR_COLUMNS = {"prompt_ids", "chosen_ids", "rejected_ids"}


def tokenize_prompt(prompt, processing_class, **chat_template_kwargs) -> list[int]:
    """
    Ids of a prompt as `generate` would get them: text as it is, messages with the generation prompt.

    Example:
    ```python
    >>> tokenize_prompt([{"role": "user", "content": "Hi"}], tokenizer)
    ```
    """
    if isinstance(prompt, str):
        return processing_class(prompt)["input_ids"]
    return _render(prompt, processing_class, add_generation_prompt=True, **chat_template_kwargs)


def tokenize_completion(prompt, completion, processing_class, **chat_template_kwargs) -> tuple[list[int], list[int]]:
    """
    Ids of a prompt and of its completion, EOS included.

    Args:
        prompt (`str` or messages): What the completion answers.
        completion (`str` or messages): Text, to which EOS is added if it is missing, or messages of which the last is
            the assistant's; earlier ones belong to the prompt.
        processing_class: The tokenizer.
        **chat_template_kwargs: For `apply_chat_template` (`tools`, ...).

    Returns:
        `(prompt_ids, completion_ids)`, which joined are the ids of the whole. What a chat template writes after the
        last EOS (a newline, say) is cut: `generate` never produces it.

    Raises:
        ValueError: If prompt or completion is empty, or the last message is not the assistant's.
    """
    ids, spans = _encode(prompt, completion, processing_class, turns="last", **chat_template_kwargs)
    start, end = spans[-1]
    return ids[:start], ids[start:end]


def tokenize_preference(example: dict, processing_class, turns: str = "last") -> dict[str, list[int]]:
    """
    Ids of a preference pair in any of TRL's formats.

    Args:
        example (`dict`): `{prompt, chosen, rejected}` or `{chosen, rejected}`, text or messages; optional `tools` (may
            be a JSON string) and `chat_template_kwargs`.
        processing_class: The tokenizer.
        turns (`str`, *optional*, defaults to `"last"`): Which assistant turns of a chat count: `"last"` or `"all"`.

    Returns:
        `dict` with `prompt_ids` (shared by both), `chosen_ids`, `rejected_ids`, and for chats `chosen_mask` and
        `rejected_mask`: 1 on the tokens of prompt and completion that count.

    Example:
    ```python
    >>> tokenize_preference({"prompt": "2+2=", "chosen": "4", "rejected": "5"}, tokenizer)
    {'prompt_ids': [...], 'chosen_ids': [...], 'rejected_ids': [...]}
    ```
    """
    is_chat = is_conversational(example)
    if "prompt" not in example:
        example = {"prompt": [], **example} if is_chat else extract_prompt(example)
    tools = example.get("tools")
    kwargs = {
        "tools": json.loads(tools) if isinstance(tools, str) else tools,
        **(example.get("chat_template_kwargs") or {}),
    }
    sides = [
        _encode(example["prompt"], example[side], processing_class, turns, **(kwargs if is_chat else {}))
        for side in ("chosen", "rejected")
    ]
    (chosen, chosen_spans), (rejected, rejected_spans) = sides
    shared = min(_common_prefix(chosen, rejected), chosen_spans[-1][0], rejected_spans[-1][0])
    # Where one completion begins like the other, the completion still starts at its turn.
    row = {
        "prompt_ids": chosen[:shared],
        "chosen_ids": chosen[shared : chosen_spans[-1][1]],
        "rejected_ids": rejected[shared : rejected_spans[-1][1]],
    }
    if is_chat:
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
) -> Dataset | IterableDataset:
    """
    Rows with `prompt_ids`, `chosen_ids`, `rejected_ids` (and masks for chats) from preference rows of any format.

    Args:
        dataset (`Dataset` or `IterableDataset`): See [`tokenize_preference`]. One that has the ids is only filtered.
        processing_class: The tokenizer.
        max_length (`int`, *optional*): Pairs of which one side has more *tokens* are left out, and counted in the log.
        turns (`str`, *optional*): As for [`tokenize_preference`].
        num_proc (`int`, *optional*): Processes of a map-style dataset.
        name (`str`, *optional*): What the log calls the dataset.

    Raises:
        ValueError: If columns are missing, the tokenizer has no EOS, or no pair is left.
    """
    columns = set(next(iter(dataset)))
    map_kwargs = {"num_proc": num_proc, "desc": f"Tokenizing {name}"} if isinstance(dataset, Dataset) else {}
    if not _PAIR_COLUMNS <= columns:
        if not {"chosen", "rejected"} <= columns:
            raise ValueError(
                f"The {name} dataset has the columns {sorted(columns)}, but preference pairs need 'chosen' and "
                "'rejected', with 'prompt' or with the prompt as their shared beginning. Rename the columns."
            )
        dataset = dataset.map(
            tokenize_preference, fn_kwargs={"processing_class": processing_class, "turns": turns}, **map_kwargs
        )
    if max_length is None:
        return dataset
    map_kwargs.pop("desc", None)
    kept = dataset.filter(_fits, fn_kwargs={"max_length": max_length}, **map_kwargs)
    if isinstance(kept, Dataset) and isinstance(dataset, Dataset):
        dropped = len(dataset) - len(kept)
        if len(kept) == 0:
            raise ValueError(
                f"All {dropped} pairs of the {name} data have more than `max_length={max_length}` tokens, so nothing "
                "is left. Raise `max_length`."
            )
        if dropped:
            logger.info("%d of %d %s pairs have more than %d tokens.", dropped, len(dataset), name, max_length)
    return kept


def _fits(row: dict, max_length: int) -> bool:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= max_length


def _encode(prompt, completion, processing_class, turns: str, **kwargs) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of the whole and the spans that count; the last span is the completion."""
    if processing_class.eos_token_id is None:
        raise ValueError("The tokenizer has no EOS token, but completions end with one. Set `tokenizer.eos_token`.")
    if turns not in ("last", "all"):
        raise ValueError(f"`turns={turns!r}` was given, but it is 'last' or 'all'. Choose one.")
    if isinstance(prompt, str) and isinstance(completion, str):
        return _encode_text(prompt, completion, processing_class)
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    messages = cast(list[dict], [*prompt, *completion])
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise ValueError(
            f"A chat of the roles {[message['role'] for message in messages]} was given, but it needs a prompt and, "
            "last, the assistant's completion. Mend the row."
        )
    return _encode_chat(messages, processing_class, turns, **kwargs)


def _encode_text(prompt: str, completion: str, processing_class) -> tuple[list[int], list[tuple[int, int]]]:
    if not prompt or not completion:
        empty = "prompt" if not prompt else "completion"
        raise ValueError(
            f"An empty {empty} was given, but a completion is judged by its prompt and has tokens. Leave the row out, "
            "or begin the prompt with the BOS token."
        )
    eos = processing_class.eos_token
    ids = processing_class(prompt + completion + ("" if completion.endswith(eos) else eos))["input_ids"]
    start = _start_of_completion(processing_class(prompt)["input_ids"], ids, processing_class)
    return ids, [(start, len(ids))]


def _encode_chat(messages: list, processing_class, turns: str, **kwargs) -> tuple[list[int], list[tuple[int, int]]]:
    ids = _render(messages, processing_class, **kwargs)
    counted = [index for index, message in enumerate(messages) if message["role"] == "assistant" and index > 0]
    spans = []
    for index in counted if turns == "all" else counted[-1:]:
        before = _render(messages[:index], processing_class, add_generation_prompt=True, **kwargs)
        start = _start_of_completion(before, ids, processing_class)
        end = len(ids)
        if index < len(messages) - 1:
            end = _common_prefix(_render(messages[: index + 1], processing_class, **kwargs), ids)
        spans.append((start, _end_at_eos(ids, start, end, processing_class.eos_token_id)))
    return ids[: spans[-1][1]], spans


def _render(messages, processing_class, add_generation_prompt: bool = False, **kwargs) -> list[int]:
    rendered = processing_class.apply_chat_template(
        list(messages), tokenize=True, return_dict=True, add_generation_prompt=add_generation_prompt, **kwargs
    )
    return list(rendered["input_ids"])


def _start_of_completion(prompt_ids: list[int], ids: list[int], processing_class) -> int:
    start = _common_prefix(prompt_ids, ids)
    if start < len(prompt_ids):
        logger.warning(
            "The prompt alone is tokenised differently from the prompt with its completion: %r is left out of the "
            "prompt. End the prompt at a token boundary, or use a chat template that renders both alike.",
            processing_class.decode(prompt_ids[start:]),
        )
    return start


def _end_at_eos(ids: list[int], start: int, end: int, eos_token_id: int) -> int:
    for position in range(end - 1, start - 1, -1):
        if ids[position] == eos_token_id:
            return position + 1
    return end


def _common_prefix(ids: list[int], other_ids: list[int]) -> int:
    for index, (one, other) in enumerate(zip(ids, other_ids, strict=False)):
        if one != other:
            return index
    return min(len(ids), len(other_ids))


def _mask(spans: list[tuple[int, int]]) -> list[int]:
    mask = [0] * spans[-1][1]
    for start, end in spans:
        mask[start:end] = [1] * (end - start)
    return mask
