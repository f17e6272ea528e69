"""Prompts that a callback samples from: given, or taken from the evaluation data of the trainer."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.preference.pairs import tokenize_prompt
from hf_reward_ext.base.preference.validation import naming_row

_IGNORED = -100  # label of tokens that the loss ignores


class Prompt(NamedTuple):
    """
    Prompt of a policy.

    Attributes:
        shown (`str` or messages): The prompt for rewards and tables.
        ids (`list[int]`): Token ids of the prompt.
        columns (`dict`): Other columns of the row, for reward functions.
    """

    shown: str | list
    ids: list[int]
    columns: dict[str, Any]


def given_prompts(prompts: Iterable, processing_class: Any, num_prompts: int | None = None) -> list[Prompt]:
    """
    Return the prompts of a list or dataset.

    Args:
        prompts (`list` of `str` or of messages, or `Dataset` with a column `prompt`): The prompts to continue.
        processing_class: Tokenizer of the policy.
        num_prompts (`int`, *optional*): Number of prompts to take. Default: all.

    Raises:
        ValueError: If there are none, one is malformed, or the dataset has no column `prompt`.
    """
    rows = prompts if isinstance(prompts, Dataset | IterableDataset) else ({"prompt": prompt} for prompt in prompts)
    return _read(rows, processing_class, num_prompts)


def evaluation_prompts(eval_dataloader: Any, processing_class: Any, num_prompts: int | None = None) -> list[Prompt]:
    """
    Return the prompts of a trainer's prepared evaluation data.

    Args:
        eval_dataloader (`DataLoader`): Dataloader of rows with `prompt` (GRPO, RLOO), `prompt_ids` (DPO), or
            `input_ids` with `completion_mask` or `labels` (SFT), which mark the completion.
        processing_class: Tokenizer of the policy. Prompt ids are decoded with their special tokens, but without the BOS
            that the tokenizer adds to plain text.
        num_prompts (`int`, *optional*): Number of prompts to take. Default: all.

    Raises:
        ValueError: If there is no evaluation data, or its rows have no prompt.
    """
    if eval_dataloader is None:
        raise ValueError("`prompts` must be given for a trainer without `eval_dataset`, got None. Pass one of them.")
    return _read(eval_dataloader.dataset, processing_class, num_prompts)


def _read(rows: Iterable, processing_class: Any, num_prompts: int | None) -> list[Prompt]:
    prompts = []
    for number, row in enumerate(islice(rows, num_prompts)):
        with naming_row(number, "prompt"):
            prompts.append(_prompt(row, processing_class))
    if not prompts:
        raise ValueError("The prompts are empty, but a callback has to sample from some. Pass at least one.")
    return prompts


def _prompt(row: Mapping, processing_class: Any) -> Prompt:
    if "prompt" in row:
        columns = {name: value for name, value in row.items() if name != "prompt"}
        return Prompt(row["prompt"], tokenize_prompt(row["prompt"], processing_class), columns)
    ids = _prompt_ids(row)
    return Prompt(_as_text(ids, processing_class), ids, {})


def _prompt_ids(row: Mapping) -> list[int]:
    if "prompt_ids" in row:
        return list(row["prompt_ids"])
    if "input_ids" in row and "completion_mask" in row:
        counted = [bool(value) for value in row["completion_mask"]]
    elif "input_ids" in row and "labels" in row:
        counted = [label != _IGNORED for label in row["labels"]]
    else:
        raise ValueError(
            f"The data to take prompts from has the columns {sorted(row)}, but a callback needs 'prompt', "
            "'prompt_ids', or 'input_ids' with 'completion_mask' or 'labels'. Pass `prompts`."
        )
    length = counted.index(True) if any(counted) else 0
    if length == 0:
        raise ValueError(
            "`labels` must leave out a prompt before the completion, got labels for the whole text or for none of it. "
            "Pass `prompts`, or train on completions only."
        )
    return list(row["input_ids"])[:length]


def _as_text(ids: Sequence[int], processing_class: Any) -> str:
    """Decode ids to text, without the BOS that the tokenizer adds itself."""
    text = processing_class.decode(ids)
    bos = processing_class.bos_token
    if bos is None or not text.startswith(bos) or text.endswith(_generation_prompt(processing_class)):
        return text
    plain = text.removeprefix(bos)
    for candidate in (plain.removeprefix(" "), plain):
        if processing_class(candidate)["input_ids"] == list(ids):
            return candidate
    return text


def _generation_prompt(processing_class: Any) -> tuple[str, ...]:
    """Return the text of a chat template after the last message, which identifies rendered prompts."""
    if processing_class.chat_template is None:
        return ()
    messages = [{"role": "user", "content": "x"}]
    alone, opened = (
        processing_class.apply_chat_template(messages, tokenize=False, add_generation_prompt=add)
        for add in (False, True)
    )
    header = opened.removeprefix(alone).strip()
    return (header,) if header and opened.startswith(alone) else ()
