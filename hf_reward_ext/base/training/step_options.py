"""Labels of steps in trainers: their option, and their data."""

from functools import partial
from typing import Any

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.preference.datasets import columns_of, drop_long_rows, plain_dataset, tokenize_rows
from hf_reward_ext.base.preference.pairs import check_tokenizer
from hf_reward_ext.base.preference.step_rows import STEP_LOSS, check_step_columns, tokenize_steps


def check_step_separator(loss_type: str, separator: str | None) -> None:
    """
    Raise `ValueError` unless the text between steps is given for rows of steps, and for no others.

    Args:
        loss_type (`str`): Loss.
        separator (`str`, *optional*): Text between steps.
    """
    if loss_type == STEP_LOSS and not isinstance(separator, str):
        raise ValueError(
            f"`step_separator` must be the text between steps with `loss_type={STEP_LOSS!r}`, got {separator!r}. Pass "
            "'\\n' for most of TRL's data, or '' for steps that make up the response, as those of `label_steps`."
        )
    if loss_type != STEP_LOSS and separator is not None:
        raise ValueError(
            f"`step_separator` must be None with `loss_type={loss_type!r}`, whose rows have no steps, got "
            f"{separator!r}. Leave it out, or use `loss_type={STEP_LOSS!r}`."
        )


def prepare_steps(
    dataset: Dataset | IterableDataset, processing_class, args: Any, name: str
) -> Dataset | IterableDataset:
    """
    Tokenize rows of labeled steps as the training arguments say.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows of [`read_labeled_steps`].
        processing_class (`PreTrainedTokenizerBase`): Tokenizer.
        args ([`ELHSRConfig`] or [`SLAConfig`]): Training arguments with a `step_separator`.
        name (`str`): Name of the data, for messages.

    Raises:
        TypeError: If `dataset` is no dataset.
        ValueError: If a row is malformed (its number and column are named), or no row is left.
    """
    dataset = plain_dataset(dataset, name)
    columns = columns_of(dataset)
    check_step_columns(columns, name)
    check_tokenizer(processing_class)
    tokenize = partial(
        tokenize_steps,
        processing_class=processing_class,
        separator=args.step_separator,
        chat_template_kwargs=args.chat_template_kwargs or {},
    )
    rows = tokenize_rows(dataset, tokenize, num_proc=args.dataset_num_proc, name=name, removed=columns)
    return drop_long_rows(rows, _num_tokens, args.max_length, name, "responses")


def _num_tokens(row: dict) -> int:
    return len(row["prompt_ids"]) + len(row["completion_ids"])
