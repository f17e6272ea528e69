"""The prompts that a callback samples from: given, or read off the evaluation data of the trainer."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.preference.pairs import tokenize_prompt


class Prompt(NamedTuple):
    """
    What a policy continues.

    Attributes:
        shown (`str` or messages): What rewards and tables see.
        ids (`list[int]`): What the policy reads.
        columns (`dict`): Other columns of its row, for rewards that ask for them.
    """

    shown: str | list
    ids: list[int]
    columns: dict[str, Any]


def given_prompts(prompts: Iterable, processing_class, num_prompts: int | None = None) -> list[Prompt]:
    """
    Prompts of a list or dataset.

    Args:
        prompts (`list` of `str` or of messages, or `Dataset` with a column `prompt`): What to continue.
        processing_class: The policy's tokenizer.
        num_prompts (`int`, *optional*): The first so many.

    Raises:
        ValueError: If there are none, or the dataset has no column `prompt`.
    """
    rows = prompts if isinstance(prompts, Dataset | IterableDataset) else ({"prompt": prompt} for prompt in prompts)
    return _read(rows, processing_class, num_prompts)


def evaluation_prompts(eval_dataloader, processing_class, num_prompts: int | None = None) -> list[Prompt]:
    """
    Prompts of the data that a trainer evaluates on, as it has prepared them.

    Args:
        eval_dataloader (`DataLoader`): Its rows have `prompt_ids` (DPO), `prompt` (GRPO, RLOO), or `input_ids` with
            `completion_mask` (SFT).
        processing_class: The policy's tokenizer. Prompts that come as ids are decoded with their special tokens.
        num_prompts (`int`, *optional*): The first so many.

    Raises:
        ValueError: If there is no evaluation data, or its rows hold no prompt.
    """
    if eval_dataloader is None:
        raise ValueError("No `prompts` were given and the trainer has no `eval_dataset`. Pass one of them.")
    return _read(eval_dataloader.dataset, processing_class, num_prompts)


def _read(rows: Iterable, processing_class, num_prompts: int | None) -> list[Prompt]:
    found = [_prompt(row, processing_class) for row in islice(rows, num_prompts)]
    if not found:
        raise ValueError("The prompts are empty, but a callback has to sample from some. Pass at least one.")
    return found


def _prompt(row: dict, processing_class) -> Prompt:
    if "prompt" in row:
        columns = {name: value for name, value in row.items() if name != "prompt"}
        return Prompt(row["prompt"], tokenize_prompt(row["prompt"], processing_class), columns)
    if "prompt_ids" in row:
        ids = list(row["prompt_ids"])
    elif "completion_mask" in row and "input_ids" in row:
        ids = list(row["input_ids"])[: list(row["completion_mask"]).index(1)]
    else:
        raise ValueError(
            f"The data to take prompts from has the columns {sorted(row)}, but a callback needs 'prompt', "
            "'prompt_ids', or 'input_ids' with 'completion_mask'. Pass `prompts`."
        )
    return Prompt(processing_class.decode(ids), ids, {})
