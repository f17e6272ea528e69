"""Training rows of every format become one form: a prompt with all its candidates and their labels."""

from collections.abc import Callable, Iterable
from typing import Any, cast

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.preference.pairs import tokenize_completion, tokenize_preference

GROUP_COLUMNS = ["prompt_ids", "completion_ids", "labels"]
_FORMATS = (
    "{prompt, completion, label}, {prompt, completions, labels}, {prompt, chosen, rejected} or {chosen, rejected}"
)


def group_by_prompt(
    dataset: Dataset | IterableDataset,
    processing_class,
    *,
    max_length: int | None = None,
    max_candidates: int | None = None,
) -> Dataset | IterableDataset:
    """
    Rows `{prompt_ids, completion_ids, labels}`, one per prompt, from any of the formats.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows `{prompt, completion, label}`, `{prompt, completions, labels}`,
            preference pairs (text or messages), or `{prompt_ids, completion_ids, label}` with ready token ids. Rows
            that share a prompt are gathered; streamed rows are not.
        processing_class: Tokenizer of the policy.
        max_length (`int`, *optional*): Candidates with more tokens, prompt included, are left out.
        max_candidates (`int`, *optional*): Candidates per prompt at most.

    Returns:
        A dataset of the same kind.

    Raises:
        ValueError: If columns are missing or nothing is left.
    """
    columns = list(cast(dict, next(iter(dataset))))
    if set(GROUP_COLUMNS) <= set(columns):
        return dataset
    read_row = _reader(columns)

    def to_groups(row: dict) -> dict:
        pairs, labels = read_row(row, processing_class)
        return _group(pairs[0][0], [completion for _, completion in pairs], labels, max_length, max_candidates)

    if isinstance(dataset, IterableDataset):
        return dataset.map(to_groups, remove_columns=columns).filter(lambda row: len(row["labels"]) > 0)
    gathered: dict[tuple, tuple[list, list]] = {}
    for row in cast(Iterable[dict], dataset):
        for (prompt_ids, completion_ids), label in zip(*read_row(row, processing_class), strict=True):
            completions, labels = gathered.setdefault(tuple(prompt_ids), ([], []))
            completions.append(completion_ids)
            labels.append(label)
    rows = [_group(list(prompt), *members, max_length, max_candidates) for prompt, members in gathered.items()]
    rows = [row for row in rows if row["labels"]]
    if not rows:
        raise ValueError(
            f"All {len(gathered)} prompts have only candidates longer than `max_length={max_length}` tokens, so there "
            "is nothing to train on. Raise `max_length`."
        )
    return Dataset.from_list(rows)


def check_labels(groups: Dataset, loss_type: str) -> None:
    """
    Refuses data from which nothing can be learned.

    Raises:
        ValueError: If all labels are the same, or a grouped loss has no prompt with both kinds.
    """
    labels = [label for row in groups["labels"] for label in row]
    if min(labels) == max(labels):
        raise ValueError(
            f"All {len(labels)} labels are {labels[0]}, but the head learns from correct and wrong completions. "
            "Sample more completions, or at a higher temperature."
        )
    if loss_type in ("pairwise", "infonca", "nca") and not any(min(row) < max(row) for row in groups["labels"]):
        raise ValueError(
            f"`loss_type={loss_type!r}` compares candidates of one prompt, but no prompt has both a correct and a "
            "wrong one. Give several completions per prompt, or use `loss_type='bce'`."
        )


def _group(prompt_ids: list, completions: list, labels: list, max_length, max_candidates) -> dict:
    kept = [
        (completion, float(label))
        for completion, label in zip(completions, labels, strict=True)
        if max_length is None or len(prompt_ids) + len(completion) <= max_length
    ][:max_candidates]
    return {
        "prompt_ids": prompt_ids,
        "completion_ids": [completion for completion, _ in kept],
        "labels": [label for _, label in kept],
    }


def _reader(columns: list[str]) -> Callable[[Any, object], tuple[list, list]]:
    """The function that turns a row with these columns into ((prompt_ids, completion_ids), ...) and labels."""
    given = set(columns)
    if {"prompt_ids", "completion_ids", "label"} <= given:
        return lambda row, _: ([(row["prompt_ids"], row["completion_ids"])], [row["label"]])
    if {"prompt", "completions", "labels"} <= given:
        return _read_candidates
    if {"prompt", "completion", "label"} <= given:
        return lambda row, tokenizer: (
            [tokenize_completion(row["prompt"], row["completion"], tokenizer)],
            [row["label"]],
        )
    if {"chosen_ids", "rejected_ids", "prompt_ids"} <= given:
        return _read_pair_ids
    if {"chosen", "rejected"} <= given:
        return lambda row, tokenizer: _read_pair_ids(tokenize_preference(row, tokenizer), tokenizer)
    raise ValueError(f"The dataset has the columns {columns}, but ELHSR needs {_FORMATS}. Rename or add columns.")


def _read_candidates(row: dict, tokenizer) -> tuple[list, list]:
    if len(row["completions"]) != len(row["labels"]):
        raise ValueError(
            f"A row has {len(row['completions'])} completions and {len(row['labels'])} labels, but each completion "
            "needs one label. Mend the row."
        )
    return [tokenize_completion(row["prompt"], text, tokenizer) for text in row["completions"]], row["labels"]


def _read_pair_ids(row: dict, _) -> tuple[list, list]:
    prompt = row["prompt_ids"]
    return [(prompt, row["chosen_ids"]), (prompt, row["rejected_ids"])], [1.0, 0.0]
