"""Rows of responses with a label for each step: reading, checks and tokenization."""

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hf_reward_ext.base.preference.datasets import columns_of, plain_dataset, rows_to_check
from hf_reward_ext.base.preference.pairs import tokenize_completion
from hf_reward_ext.base.preference.rows import check_rows
from hf_reward_ext.base.preference.step_ends import find_step_ends
from hf_reward_ext.base.preference.validation import (
    Messages,
    is_chat,
    read_completion,
    read_prompt,
    read_template_kwargs,
)

STEP_LOSS = "step_bce"
STEP_COLUMNS = ["prompt_ids", "completion_ids", "step_ends", "labels"]
_COLUMNS = ("prompt", "completions", "labels")


class LabeledSteps(NamedTuple):
    """
    Response whose steps are labeled.

    Args:
        prompt (`str` or messages): Prompt.
        steps (`list[str]`): Steps of the response.
        labels (`list[float]`): Label of each step, from 0 (wrong) to 1 (right).
        template_kwargs (`dict`): Arguments of the chat template.
    """

    prompt: str | Messages
    steps: list[str]
    labels: list[float]
    template_kwargs: dict[str, Any]


def read_labeled_steps(row: Mapping) -> LabeledSteps:
    """
    Return the steps in a row.

    Args:
        row (`dict`): `{prompt, completions, labels}` as TRL's data of step rewards: text or messages, a list of steps
            as text, and a list of `bool` or numbers from 0 to 1. Optional: `tools`, `chat_template_kwargs`.

    Raises:
        ValueError: If a value is malformed; the column is named.

    Example:
    ```python
    >>> read_labeled_steps({"prompt": "2+2+2?", "completions": ["2+2=4", "4+2=7"], "labels": [True, False]})
    LabeledSteps(prompt='2+2+2?', steps=['2+2=4', '4+2=7'], labels=[1.0, 0.0], template_kwargs={})
    ```
    """
    if row.get("margin") is not None:
        raise ValueError("`margin` must not be given for steps, which are compared with labels; remove the column.")
    prompt, kwargs = read_prompt(row["prompt"]), read_template_kwargs(row)
    if kwargs and isinstance(prompt, str):
        raise ValueError(f"`{next(iter(kwargs))}` must be of a chat, got texts; remove the column.")
    steps, labels = row["completions"], row["labels"]
    if not is_chat(steps) or len(steps) == 0:
        raise ValueError(f"`completions` must be a list of at least one step, got {steps!r:.80}; correct the row.")
    for index, step in enumerate(steps):
        if not isinstance(step, str):
            raise ValueError(
                f"`completions[{index}]` must be the text of a step, got a `{type(step).__name__}`; correct the row."
            )
        read_completion(step, f"completions[{index}]")
    if not is_chat(labels) or len(labels) != len(steps):
        raise ValueError(
            f"`labels` must be a list of {len(steps)} labels, one for each step, got {labels!r:.80}; correct the row."
        )
    return LabeledSteps(prompt, list(steps), [_read_label(one, index) for index, one in enumerate(labels)], kwargs)


def check_step_rows(dataset: Dataset | IterableDataset, name: str) -> None:
    """
    Check all rows of a map-style dataset, and the first of a stream, before anything is loaded.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows of [`read_labeled_steps`].
        name (`str`): Name of the data.

    Raises:
        TypeError: If `dataset` is no dataset.
        ValueError: If columns are missing or a row is malformed; its number and column are named.
    """
    dataset = plain_dataset(dataset, name)
    if "step_ends" in columns_of(dataset):
        return
    check_step_columns(columns_of(dataset), name)
    check_rows(rows_to_check(dataset), lambda row: not read_labeled_steps(row), name)


def check_step_columns(columns: Iterable[str], name: str) -> None:
    """
    Reject data without labeled steps.

    Raises:
        ValueError: If 'prompt', 'completions' or 'labels' is missing.
    """
    missing = [column for column in _COLUMNS if column not in columns]
    if missing:
        raise ValueError(
            f"The {name} data has the columns {sorted(columns)}, but `loss_type={STEP_LOSS!r}` needs 'prompt', "
            f"'completions' (the steps) and 'labels'; {', '.join(map(repr, missing))} missing. Rename or add columns."
        )


def check_step_labels(rows: Dataset) -> None:
    """
    Reject labels from which nothing can be learned.

    Raises:
        ValueError: If all labels are the same.
    """
    labels = [label for row in rows["labels"] for label in row]
    if min(labels) == max(labels):
        raise ValueError(
            f"All {len(labels)} labels of steps are {labels[0]:g}, but right and wrong steps are needed. Label other "
            "responses."
        )


class StepCollator:
    """
    Collator of rows `{prompt_ids, completion_ids, step_ends, labels}` into one batch.

    Args:
        pad_token_id (`int`): Id that fills rows on the right.
        pad_to_multiple_of (`int`, *optional*): Number that divides the padded length.

    Example:
    ```python
    >>> row = {"prompt_ids": [5], "completion_ids": [6, 7, 2], "step_ends": [0, 2], "labels": [1.0, 0.0]}
    >>> StepCollator(0)([row])["step_ends"]
    tensor([[1, 3]])
    ```
    """

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int | None = None):
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """
        Collate rows.

        Returns:
            `input_ids`, `attention_mask`, `completion_mask` (bool), each `(rows, seq)`; and `labels` and `step_ends`
            (positions in `input_ids`), each `(rows, width)`, NaN and -1 where a row has fewer steps. The width is that
            of the rows, or the most steps in the batch.
        """
        starts = [len(row["prompt_ids"]) for row in rows]
        texts = [torch.tensor([*row["prompt_ids"], *row["completion_ids"]]) for row in rows]
        return {
            "input_ids": self._pad(texts, self.pad_token_id),
            "attention_mask": self._pad([torch.ones_like(text) for text in texts], 0),
            "completion_mask": self._pad(
                [torch.arange(len(text)) >= start for text, start in zip(texts, starts, strict=True)], False
            ),
            **pad_steps(rows, starts),
        }

    def _pad(self, rows: list[Tensor], value: int) -> Tensor:
        padded = pad_sequence(rows, batch_first=True, padding_value=value)
        surplus = -padded.shape[1] % (self.pad_to_multiple_of or 1)
        return torch.nn.functional.pad(padded, (0, surplus), value=value)


def pad_steps(rows: list[dict], starts: list[int]) -> dict[str, Tensor]:
    """
    Return `labels` and `step_ends` of a batch, see [`StepCollator`].

    Args:
        rows (`list[dict]`): Rows with `labels` and `step_ends`, and `width` or none.
        starts (`list[int]`): Position of the first token of each completion.
    """
    width = max(row.get("width") or len(row["labels"]) for row in rows)
    missing = [width - len(row["labels"]) for row in rows]
    labels = [[*row["labels"], *[torch.nan] * count] for row, count in zip(rows, missing, strict=True)]
    ends = [
        [*(start + end for end in row["step_ends"]), *[-1] * count]
        for row, start, count in zip(rows, starts, missing, strict=True)
    ]
    # A dataset keeps the type of the column, which may be `bool`.
    return {"labels": torch.tensor(labels, dtype=torch.float32), "step_ends": torch.tensor(ends)}


def _read_label(value: Any, index: int) -> float:
    if not isinstance(value, Real):
        raise ValueError(
            f"`labels[{index}]` must be a `bool` or a number from 0 (wrong) to 1 (right), got {value!r:.80}; correct "
            "the row."
        )
    if not 0 <= float(value) <= 1:
        raise ValueError(f"`labels[{index}]` must be from 0 (wrong) to 1 (right), got {value}; rescale the labels.")
    return float(value)


def tokenize_steps(row: Mapping, processing_class: Any, separator: str, chat_template_kwargs: dict) -> dict:
    """
    Return `prompt_ids`, `completion_ids`, `step_ends` (in the completion) and `labels` of a row of labeled steps.

    Args:
        row (`dict`): A row of [`read_labeled_steps`].
        processing_class (`PreTrainedTokenizerBase`): Tokenizer.
        separator (`str`): Text between steps.
        chat_template_kwargs (`dict`): Arguments of `apply_chat_template`; arguments in the row take precedence.

    Raises:
        ValueError: If a value is malformed; the column is named.
    """
    given = read_labeled_steps(row)
    kwargs = {**chat_template_kwargs, **given.template_kwargs} if is_chat(given.prompt) else {}
    steps = [*(step + separator for step in given.steps[:-1]), given.steps[-1]]
    prompt_ids, completion_ids = tokenize_completion(given.prompt, "".join(steps), processing_class, **kwargs)
    ends = find_step_ends(processing_class, completion_ids, steps)
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "step_ends": ends, "labels": given.labels}
