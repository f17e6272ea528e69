"""Preference pairs, with judgements or without, as token ids for stage 1."""

import logging
from typing import cast

from datasets import Dataset, IterableDataset
from trl import extract_prompt

from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.verdicts import favours

logger = logging.getLogger(__name__)
SIDES = ("chosen", "rejected")
COLUMNS = [
    *(f"{side}_{what}" for side in SIDES for what in ("prompt_ids", "judgments", "target")),
    "num_dropped_judgments",
    "margin",
]


def prepare_pairs(
    dataset: Dataset | IterableDataset,
    judge_prompt: JudgePrompt,
    *,
    max_length: int | None = None,
    num_proc: int | None = None,
    name: str = "train",
) -> Dataset | IterableDataset:
    """
    Token ids of preference pairs and their judgements.

    Args:
        dataset (`Dataset` or `IterableDataset`): Rows `{chosen, rejected}` with `prompt` or with the prompt as their
            shared beginning, text or chat. Optional columns: `judgments`, see [`encode_pair`]; `margin`, in scaled
            reward units; for a scale `chosen_verdict` and `rejected_verdict`.
        judge_prompt ([`JudgePrompt`]): Template and verdicts.
        max_length (`int`, *optional*): In tokens, see [`FastSlowConfig`].
        num_proc (`int`, *optional*): Processes of a map-style dataset.
        name (`str`, *optional*): What errors call the dataset.

    Raises:
        ValueError: If columns are missing, a judgement contradicts its pair, or nothing is left.
    """
    columns = set(next(iter(dataset)))
    if not set(SIDES) <= columns:
        raise ValueError(
            f"The {name} dataset has the columns {sorted(columns)}, but a judge learns from pairs with 'chosen' and "
            "'rejected', with 'prompt' or with the prompt as their shared beginning. Rename the columns."
        )
    map_kwargs = {"num_proc": num_proc, "desc": f"Tokenizing {name}"} if isinstance(dataset, Dataset) else {}
    fn_kwargs = {"judge_prompt": judge_prompt, "max_length": max_length}
    removed = sorted(columns - {"margin"})
    prepared = dataset.map(encode_pair, fn_kwargs=fn_kwargs, remove_columns=removed, **map_kwargs)
    kept = prepared.filter(_has_prompts)
    if isinstance(kept, Dataset) and isinstance(prepared, Dataset):
        dropped = len(prepared) - len(kept)
        if len(kept) == 0:
            raise ValueError(
                f"All {dropped} pairs of the {name} data have judge prompts of more than `max_length={max_length}` "
                "tokens, so nothing is left. Raise `max_length`."
            )
        judgments = sum(kept["num_dropped_judgments"])
        if dropped or judgments:
            logger.info("%s: %d pairs and %d judgements of others are too long.", name, dropped, judgments)
    return kept


def encode_pair(example: dict, judge_prompt: JudgePrompt, max_length: int | None = None) -> dict:
    """
    Ids of both judge prompts of a pair, and of what follows them in its judgements.

    Args:
        example (`dict`): A preference pair; `judgments` is a list of `{about, first_verdict, text, verdict}`: the
            response (`"chosen"` or `"rejected"`) that is judged, or with pairwise verdicts shown first; the first
            verdict, which the text may overturn; the analysis without marker; and the final verdict.
        judge_prompt ([`JudgePrompt`]): Template and verdicts.
        max_length (`int`, *optional*): In tokens.

    Returns:
        `dict` with, for each side, `{side}_prompt_ids` (empty if too long), `{side}_judgments` (ids from the first
        verdict to EOS) and `{side}_target` (place of the right verdict, -1 if unknown); and `num_dropped_judgments`.

    Raises:
        ValueError: If a judgement ends with a verdict that contradicts the pair.
    """
    example = with_prompt(example)
    prompts = dict(zip(SIDES, _prompt_ids(example, judge_prompt), strict=True))
    fits = max_length is None or max(map(len, prompts.values())) <= max_length
    encoded: dict = {"num_dropped_judgments": 0}
    for side in SIDES:
        encoded[f"{side}_prompt_ids"] = prompts[side] if fits else []
        encoded[f"{side}_target"] = _target(example, side, judge_prompt)
        own = [one for one in example.get("judgments") or [] if one["about"] == side]
        ids = [judgment_ids(one, judge_prompt) for one in own]
        short = [one for one in ids if max_length is None or len(prompts[side]) + len(one) <= max_length]
        encoded[f"{side}_judgments"] = short
        encoded["num_dropped_judgments"] += len(ids) - len(short)
    return encoded


def judgment_ids(judgment: dict, judge_prompt: JudgePrompt) -> list[int]:
    """Ids from the first verdict over analysis, marker and final verdict to EOS."""
    final, first = judge_prompt.place(judgment["verdict"]), judge_prompt.place(judgment["first_verdict"])
    if favours(final, judge_prompt.values) != (judgment["about"] == "chosen"):
        raise ValueError(
            f"A judgement about the {judgment['about']!r} response ends with the verdict {judgment['verdict']!r}, but "
            "stage 1 learns from judgements that are right. Leave it out; `sample_judgments` keeps right ones only."
        )
    eos = judge_prompt.tokenizer.eos_token_id
    given = [int(judge_prompt.first_ids[first]), *judge_prompt.prefix_ids]
    return [*given, *judge_prompt.encode_judgment(judgment["text"], final), *([] if eos is None else [eos])]


def with_prompt(row) -> dict:
    """The row, its prompt taken out of the shared beginning where it has no column of its own."""
    return cast(dict, row if "prompt" in row else extract_prompt(row))


def _prompt_ids(example: dict, judge_prompt: JudgePrompt) -> tuple[list[int], list[int]]:
    prompt, chosen, rejected = example["prompt"], example["chosen"], example["rejected"]
    if judge_prompt.is_pairwise:
        return judge_prompt.encode(prompt, chosen, rejected), judge_prompt.encode(prompt, rejected, chosen)
    return judge_prompt.encode(prompt, chosen), judge_prompt.encode(prompt, rejected)


def _target(example: dict, side: str, judge_prompt: JudgePrompt) -> int:
    if judge_prompt.kind != "scale":
        return SIDES.index(side)
    verdict = example.get(f"{side}_verdict")
    return -1 if verdict is None else judge_prompt.place(str(verdict))


def _has_prompts(row: dict) -> bool:
    return len(row["chosen_prompt_ids"]) > 0
