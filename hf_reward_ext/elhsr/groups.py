"""Conversion of training rows of any format to prompts with all their candidates and labels."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.preference.datasets import columns_of, plain_dataset, rows_to_check
from hf_reward_ext.base.preference.pairs import (
    check_tokenizer,
    check_vocabulary,
    tokenize_completion,
    tokenize_preference,
)
from hf_reward_ext.base.preference.rows import check_pairs, check_rows, has_pair_ids
from hf_reward_ext.base.preference.step_rows import STEP_LOSS, check_step_labels, check_step_rows
from hf_reward_ext.base.preference.validation import (
    Messages,
    is_chat,
    naming_row,
    read_completion,
    read_ids,
    read_number,
    read_prompt,
    read_template_kwargs,
)

logger = logging.getLogger(__name__)
GROUP_COLUMNS = ["prompt_ids", "completion_ids", "labels"]
SHARES = ("bce", "hinge", "centroids", "step_bce")  # losses with labels from 0 to 1
_FORMATS = (
    "{prompt, completion, label}, {prompt, completions, labels}, {prompt, chosen, rejected} or {chosen, rejected}"
)


class Candidates(NamedTuple):
    """
    Candidates of one prompt, as text, messages or token ids.

    Args:
        prompt (`str`, messages or `list[int]`): Prompt of the candidates.
        completions (`list`): Completions of the prompt.
        labels (`list[float]`): Labels of the completions.
        template_kwargs (`dict`): Arguments of the chat template.
    """

    prompt: str | Messages | list[int]
    completions: list
    labels: list[float]
    template_kwargs: dict[str, Any]


def read_candidates(row: Mapping, loss_type: str = "bce") -> Candidates:
    """
    Return the labeled candidates in a row.

    Args:
        row (`dict`): `{prompt, completion, label}` or `{prompt, completions, labels}` of text or messages, with
            optional `tools` and `chat_template_kwargs`; or `{prompt_ids, completion_ids, label}` and
            `{prompt_ids, completion_ids, labels}`, as returned by [`group_by_prompt`].
        loss_type (`str`, *optional*): Loss, which determines the valid labels.

    Raises:
        ValueError: If a value is malformed; the column is named.
    """
    if "labels" in row:
        labels = _read_labels(row["labels"], loss_type)
    else:
        labels = [_read_label(row["label"], "label", loss_type)]
    if "prompt_ids" in row:
        given = row["completion_ids"] if "labels" in row else [row["completion_ids"]]
        prompt: Any = read_ids(row["prompt_ids"], "prompt_ids")
        completions: list = [read_ids(ids, "completion_ids") for ids in given]
        kwargs = {}
    else:
        prompt, kwargs = read_prompt(row["prompt"]), read_template_kwargs(row)
        if "labels" in row:
            if not is_chat(row["completions"]):
                raise ValueError(f"`completions` must be a list, got a `{type(row['completions']).__name__}`.")
            given = [(f"completions[{index}]", one) for index, one in enumerate(row["completions"])]
        else:
            given = [("completion", row["completion"])]
        completions = [read_completion(one, column, prompt) for column, one in given]
        if isinstance(prompt, str) and is_chat(*completions):
            raise ValueError("`prompt` must be messages where completions are, got a text; give it as messages.")
        if kwargs and isinstance(prompt, str):
            raise ValueError(f"`{next(iter(kwargs))}` must be of a chat, got texts; remove the column.")
    if len(completions) != len(labels):
        raise ValueError(
            f"A row has {len(completions)} completions and {len(labels)} labels, but each completion needs one label. "
            "Correct the row."
        )
    return Candidates(prompt, completions, labels, kwargs)


def check_group_rows(dataset: Dataset | IterableDataset, loss_type: str, name: str) -> None:
    """
    Check all rows of a map-style dataset, and the first of a stream, before anything is loaded.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows of [`group_by_prompt`].
        loss_type (`str`): Loss, which determines the valid labels.
        name (`str`): Name of the data.

    Raises:
        TypeError: If `dataset` is no dataset.
        ValueError: If columns are missing or a row is malformed; its number and column are named.
    """
    dataset = plain_dataset(dataset, name)
    if "cache" in columns_of(dataset):
        return
    if loss_type == STEP_LOSS:
        check_step_rows(dataset, name)
        return
    if _has_pairs(columns_of(dataset)):
        check_pairs(rows_to_check(dataset), name)
    else:
        check_rows(rows_to_check(dataset), lambda row: not read_candidates(row, loss_type), name)


def group_by_prompt(
    dataset: Dataset | IterableDataset,
    processing_class,
    *,
    max_length: int | None = None,
    max_candidates: int | None = None,
    loss_type: str = "bce",
    chat_template_kwargs: dict | None = None,
    name: str = "train",
) -> Dataset | IterableDataset:
    """
    Convert rows of any format to rows `{prompt_ids, completion_ids, labels}`, one per prompt.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows of [`read_candidates`], or preference pairs of text, messages or
            ids, whose chosen side has the label 1. Rows with the same prompt are grouped, except streamed rows.
        processing_class (`PreTrainedTokenizerBase`): Tokenizer of the policy.
        max_length (`int`, *optional*): Maximum number of tokens of prompt and candidate; longer ones are dropped, and
            their number is logged.
        max_candidates (`int`, *optional*): Maximum number of candidates per prompt.
        loss_type (`str`, *optional*): Loss, which determines the valid labels.
        chat_template_kwargs (`dict`, *optional*): Arguments of `apply_chat_template`; arguments in a row take
            precedence.
        name (`str`, *optional*): Name of the data, for messages.

    Returns:
        A dataset of the same kind.

    Raises:
        TypeError: If `dataset` is no dataset.
        ValueError: If columns are missing, a row is malformed (its number and column are named), or no candidate is
            left.
    """
    dataset = plain_dataset(dataset, name)
    columns = columns_of(dataset)
    if set(GROUP_COLUMNS) <= set(columns) or "cache" in columns:
        return dataset
    is_pairs = _has_pairs(columns)
    check_tokenizer(processing_class)

    def tokenize(row: Mapping, number: int) -> tuple[list[int], list[tuple[list[int], float]]]:
        with naming_row(number, name):
            if is_pairs:
                return _tokenize_pair(row, processing_class, chat_template_kwargs or {})
            return _tokenize_candidates(row, processing_class, loss_type, chat_template_kwargs or {})  # pyright: ignore[reportReturnType]

    def to_group(row: dict, number: int) -> dict:
        return _group(*tokenize(row, number), max_length, max_candidates)

    if isinstance(dataset, IterableDataset):
        groups = dataset.map(to_group, with_indices=True, remove_columns=columns)
        return groups.filter(lambda row: len(row["labels"]) > 0)
    gathered: dict[tuple, list[tuple[list[int], float]]] = {}
    for number, row in enumerate(cast(Iterable[dict], dataset)):
        prompt_ids, candidates = tokenize(row, number)
        gathered.setdefault(tuple(prompt_ids), []).extend(candidates)
    return _limited(gathered, max_length, max_candidates, name)


def check_labels(groups: Dataset, loss_type: str) -> None:
    """
    Reject labels from which nothing can be learned.

    Raises:
        ValueError: If all labels are the same, or a grouped loss has no prompt with both kinds.
    """
    if loss_type == STEP_LOSS:
        return check_step_labels(groups)
    labels = [label for row in groups["labels"] for label in row]
    if min(labels) == max(labels):
        raise ValueError(
            f"All {len(labels)} labels are {labels[0]}, but the head learns from correct and wrong completions. "
            "Sample more completions, or at a higher temperature."
        )
    if loss_type not in SHARES and not any(min(row) < max(row) for row in groups["labels"]):
        raise ValueError(
            f"`loss_type={loss_type!r}` compares candidates of one prompt, but no prompt has both a correct and a "
            "wrong one. Give several completions per prompt, or use `loss_type='bce'`."
        )


def _has_pairs(columns: list[str]) -> bool:
    """Return whether the columns are those of preference pairs and not of labeled candidates."""
    given = set(columns)
    if {"prompt_ids", "completion_ids"} <= given and given & {"label", "labels"}:
        return False
    if {"prompt", "completions", "labels"} <= given or {"prompt", "completion", "label"} <= given:
        return False
    if not (has_pair_ids(given) or {"chosen", "rejected"} <= given):
        raise ValueError(f"The dataset has the columns {columns}, but ELHSR needs {_FORMATS}. Rename or add columns.")
    if "margin" in given:
        raise ValueError(
            "`margin` must not be a column of ELHSR's data: its losses compare completions with labels, which leave "
            "no margins. Remove the column."
        )
    return True


def _read_label(value, column: str, loss_type: str) -> float:
    label = read_number(value, column)
    if loss_type in SHARES and not 0 <= label <= 1:
        raise ValueError(
            f"`{column}` must be from 0 (wrong) to 1 (correct) with `loss_type={loss_type!r}`, got {label:g}; rescale "
            "the labels."
        )
    return label


def _read_labels(value, loss_type: str) -> list[float]:
    if not is_chat(value) or len(value) == 0:
        raise ValueError(f"`labels` must be a list of numbers, one for each completion, got {value!r}.")
    return [_read_label(label, f"labels[{index}]", loss_type) for index, label in enumerate(value)]


def _tokenize_candidates(row: Mapping, processing_class, loss_type: str, chat_template_kwargs: dict):
    prompt, completions, labels, template_kwargs = read_candidates(row, loss_type)
    if "prompt_ids" in row:
        for ids in completions:
            check_vocabulary({"prompt_ids": prompt, "completion_ids": ids}, processing_class)  # pyright: ignore[reportArgumentType]
        return prompt, list(zip(completions, labels, strict=True))
    kwargs = {**chat_template_kwargs, **template_kwargs} if is_chat(prompt) else {}
    pairs = [tokenize_completion(prompt, completion, processing_class, **kwargs) for completion in completions]
    # A token across the boundary belongs to the completion; all candidates begin at the earliest start.
    start = min(len(prompt_ids) for prompt_ids, _ in pairs)
    texts = [prompt_ids + completion_ids for prompt_ids, completion_ids in pairs]
    return texts[0][:start], [(text[start:], label) for text, label in zip(texts, labels, strict=True)]


def _tokenize_pair(row: Mapping, processing_class, chat_template_kwargs: dict):
    pair = tokenize_preference(row, processing_class, **chat_template_kwargs)
    return pair["prompt_ids"], [(pair["chosen_ids"], 1.0), (pair["rejected_ids"], 0.0)]


def _limited(gathered: dict[tuple, list], max_length: int | None, max_candidates: int | None, name: str) -> Dataset:
    rows = [_group(list(prompt), given, max_length, max_candidates) for prompt, given in gathered.items()]
    num_fitting = sum(_fits(prompt, ids, max_length) for prompt, given in gathered.items() for ids, _ in given)
    num_given = sum(map(len, gathered.values()))
    rows = [row for row in rows if row["labels"]]
    if not rows:
        raise ValueError(
            f"All {num_given} candidates of the {len(gathered)} prompts of the {name} data are longer than "
            f"`max_length={max_length}` tokens, so there is nothing to train on. Raise `max_length`."
        )
    if num_fitting < num_given:
        logger.info(
            "%d of %d %s candidates have more than %d tokens; %d of %d prompts are left.",
            num_given - num_fitting, num_given, name, max_length, len(rows), len(gathered),
        )  # fmt: skip
    num_kept = sum(len(row["labels"]) for row in rows)
    if num_kept < num_fitting:
        logger.info("%d %s candidates are beyond the first %d.", num_fitting - num_kept, name, max_candidates)
    return Dataset.from_list(rows)


def _group(prompt_ids: list[int], given: list, max_length: int | None, max_candidates: int | None) -> dict:
    kept = [(ids, label) for ids, label in given if _fits(prompt_ids, ids, max_length)][:max_candidates]
    return {
        "prompt_ids": prompt_ids,
        "completion_ids": [ids for ids, _ in kept],
        "labels": [label for _, label in kept],
    }


def _fits(prompt_ids, completion_ids: list[int], max_length: int | None) -> bool:
    return max_length is None or len(prompt_ids) + len(completion_ids) <= max_length
