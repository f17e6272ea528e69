"""Tokenization of preference pairs, with or without judgments, for stage 1."""

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, cast

from datasets import Dataset, IterableDataset

from hf_reward_ext.base.preference.datasets import (
    check_lengths,
    columns_of,
    plain_dataset,
    rows_to_check,
    tokenize_rows,
)
from hf_reward_ext.base.preference.rows import Pair, check_pairs, has_pair_ids, read_pair
from hf_reward_ext.base.preference.validation import is_chat
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.verdicts import favors

logger = logging.getLogger(__name__)
SIDES = ("chosen", "rejected")
COLUMNS = [
    *(f"{side}_{what}" for side in SIDES for what in ("prompt_ids", "judgments", "target")),
    "num_dropped_judgments",
    "margin",
]
_JUDGMENT = ("about", "first_verdict", "text", "verdict")


def check_judge_rows(dataset: Dataset | IterableDataset, verdicts: Iterable[str], name: str) -> None:
    """
    Check all rows of a map-style dataset, and the first of a stream, before anything is loaded.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows of [`prepare_pairs`].
        verdicts (`list[str]`): Verdict strings of the judge.
        name (`str`): Name of the data.

    Raises:
        TypeError: If `dataset` is no dataset.
        ValueError: If columns are missing, a row is malformed (its number and column are named), or no row has two
            different sides.
    """
    dataset = plain_dataset(dataset, name)
    if is_prepared(columns_of(dataset)):
        return
    check_judge_columns(columns_of(dataset), name)
    known = set(verdicts)

    def read(row: Mapping) -> Pair:
        for judgment in read_judgments(row):
            unknown = {judgment["first_verdict"], judgment["verdict"]} - known
            if unknown:
                raise ValueError(
                    f"`judgments` must have the verdicts {sorted(known)}, got {sorted(unknown)}; use the verdicts of "
                    "the judge."
                )
        return read_judge_pair(row)

    check_pairs(rows_to_check(dataset), name, read)


def is_prepared(columns: Iterable[str]) -> bool:
    """Return whether the columns are those of [`prepare_pairs`]."""
    return {f"{side}_prompt_ids" for side in SIDES} <= set(columns)


def check_judge_columns(columns: Iterable[str], name: str) -> None:
    """
    Reject data without the texts of pairs.

    Raises:
        ValueError: If 'chosen' or 'rejected' is missing.
    """
    if set(SIDES) <= set(columns):
        return
    ids = " A judge reads its own prompt, so token ids cannot be used." if has_pair_ids(columns) else ""
    raise ValueError(
        f"The {name} data has the columns {sorted(columns)}, but a judge learns from pairs with 'chosen' and "
        f"'rejected', with 'prompt' or with the prompt as their shared beginning.{ids} Rename the columns."
    )


def read_judge_pair(row: Mapping) -> Pair:
    """
    Return the pair in a row, without anything that a judge's prompt cannot show.

    Raises:
        ValueError: If a value is malformed; the column is named.
    """
    pair = read_pair(row)
    if pair.template_kwargs:
        column = "tools" if "tools" in pair.template_kwargs else "chat_template_kwargs"
        raise ValueError(
            f"`{column}` must not be in a judge's data: its prompt shows text, also where it is used. Write the tools "
            "into a system message, or remove the column."
        )
    return pair


def read_judgments(row: Mapping) -> list[dict[str, Any]]:
    """
    Return the written judgments in a row.

    Raises:
        ValueError: If they are not a list of `{about, first_verdict, text, verdict}`, all texts.
    """
    judgments = row.get("judgments")
    if judgments is None:
        return []
    if not is_chat(judgments):
        raise ValueError(f"`judgments` must be a list, got {judgments!r}; leave it empty where there are none.")
    for index, judgment in enumerate(judgments):
        fields = judgment if isinstance(judgment, Mapping) else {}
        wrong = [field for field in _JUDGMENT if not isinstance(fields.get(field), str)]
        if wrong:
            raise ValueError(
                f"`judgments[{index}]` must have the texts {', '.join(_JUDGMENT)}, got {fields.get(wrong[0])!r} for "
                f"{wrong[0]!r}; correct it, or leave the judgment out."
            )
        if fields["about"] not in SIDES:
            raise ValueError(f"`judgments[{index}]['about']` must be 'chosen' or 'rejected', got {fields['about']!r}.")
    return [dict(judgment) for judgment in judgments]


def prepare_pairs(
    dataset: Dataset | IterableDataset,
    judge_prompt: JudgePrompt,
    *,
    max_length: int | None = None,
    num_proc: int | None = None,
    name: str = "train",
) -> Dataset | IterableDataset:
    """
    Tokenize preference pairs and their judgments.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows `{chosen, rejected}` with `prompt` or with the prompt as their
            shared beginning, text or chat. Optional columns: `judgments`, see [`encode_pair`]; `margin`, in scaled
            reward units; for ratings `chosen_verdict` and `rejected_verdict`.
        judge_prompt ([`JudgePrompt`]): Template and verdicts.
        max_length (`int`, *optional*): Maximum number of tokens, see [`FastSlowConfig`].
        num_proc (`int`, *optional*): Number of processes for a map-style dataset.
        name (`str`, *optional*): Name of the data, for messages.

    Raises:
        ValueError: If columns are missing, a judgment contradicts its pair, or no pair is left.
    """
    dataset = plain_dataset(dataset, name)
    columns = columns_of(dataset)
    if is_prepared(columns):
        return dataset
    check_judge_columns(columns, name)
    encode = partial(encode_pair, judge_prompt=judge_prompt, max_length=max_length)
    removed = sorted(set(columns) - {"margin"})
    prepared = tokenize_rows(dataset, encode, num_proc=num_proc, name=name, removed=removed)
    kept = prepared.filter(lambda row: len(row["chosen_prompt_ids"]) > 0)
    if isinstance(kept, Dataset) and isinstance(prepared, Dataset):
        dropped, judgments = len(prepared) - len(kept), sum(kept["num_dropped_judgments"])
        if len(kept) == 0:
            check_lengths(len(prepared), 0, cast(int, max_length), name)
        if dropped or judgments:
            logger.info("%s: %d pairs and %d judgments of others are too long.", name, dropped, judgments)
    return kept


def encode_pair(example: dict, judge_prompt: JudgePrompt, max_length: int | None = None) -> dict:
    """
    Tokenize both judge prompts of a pair, and its judgments.

    Args:
        example (`dict`): Preference pair. `judgments` is a list of `{about, first_verdict, text, verdict}`: the
            response (`"chosen"` or `"rejected"`) that is judged, or with pairwise verdicts shown first; the first
            verdict, which the text may overturn; the analysis without marker; and the final verdict.
        judge_prompt ([`JudgePrompt`]): Template and verdicts.
        max_length (`int`, *optional*): Maximum number of tokens.

    Returns:
        `dict` with, for each side, `{side}_prompt_ids` (empty if too long), `{side}_judgments` (ids from the first
        verdict to EOS) and `{side}_target` (index of the correct verdict, -1 if unknown); and `num_dropped_judgments`.

    Raises:
        ValueError: If a judgment ends with a verdict that contradicts the pair.
    """
    example = with_prompt(example)
    prompts = dict(zip(SIDES, _prompt_ids(example, judge_prompt), strict=True))
    fits = max_length is None or max(map(len, prompts.values())) <= max_length
    encoded: dict = {"num_dropped_judgments": 0}
    for side in SIDES:
        encoded[f"{side}_prompt_ids"] = prompts[side] if fits else []
        encoded[f"{side}_target"] = _target(example, side, judge_prompt)
        about_it = [judgment for judgment in read_judgments(example) if judgment["about"] == side]
        ids = [judgment_ids(judgment, judge_prompt) for judgment in about_it]
        short = [one for one in ids if max_length is None or len(prompts[side]) + len(one) <= max_length]
        encoded[f"{side}_judgments"] = short
        encoded["num_dropped_judgments"] += len(ids) - len(short)
    return encoded


def judgment_ids(judgment: dict, judge_prompt: JudgePrompt) -> list[int]:
    """Return the ids of first verdict, analysis, marker, final verdict and EOS."""
    final, first = (
        judge_prompt.verdict_index(judgment["verdict"]),
        judge_prompt.verdict_index(judgment["first_verdict"]),
    )
    if favors(final, judge_prompt.values) != (judgment["about"] == "chosen"):
        raise ValueError(
            f"A judgment about the {judgment['about']!r} response ends with the verdict {judgment['verdict']!r}, but "
            "stage 1 learns from judgments that are right. Leave it out; `sample_judgments` keeps right ones only."
        )
    eos = judge_prompt.tokenizer.eos_token_id
    given = [int(judge_prompt.first_ids[first]), *judge_prompt.prefix_ids]
    return [*given, *judge_prompt.encode_judgment(judgment["text"], final), *([] if eos is None else [eos])]  # pyright: ignore[reportReturnType]


def with_prompt(row: Mapping) -> dict:
    """Return a row with the pair of [`read_judge_pair`]."""
    pair = read_judge_pair(row)
    return {**row, "prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def _prompt_ids(example: dict, judge_prompt: JudgePrompt) -> tuple[list[int], list[int]]:
    prompt, chosen, rejected = example["prompt"], example["chosen"], example["rejected"]
    if judge_prompt.is_pairwise:
        return judge_prompt.encode(prompt, chosen, rejected), judge_prompt.encode(prompt, rejected, chosen)
    return judge_prompt.encode(prompt, chosen), judge_prompt.encode(prompt, rejected)


def _target(example: dict, side: str, judge_prompt: JudgePrompt) -> int:
    if judge_prompt.kind != "rating":
        return SIDES.index(side)
    verdict = example.get(f"{side}_verdict")
    return -1 if verdict is None else judge_prompt.verdict_index(str(verdict))
