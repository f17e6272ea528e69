"""Sampling of a model's own judgments with correct verdicts, from correct and from wrong first verdicts."""

import logging
import random
from collections.abc import Sequence

import torch
from datasets import Dataset

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.fast_slow.decode.decoding import judge_rows
from hf_reward_ext.fast_slow.decode.written_judgment import WrittenJudgment, check_writing
from hf_reward_ext.fast_slow.judge.gate import ALWAYS
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.judge.verdicts import favors
from hf_reward_ext.fast_slow.model import FastSlowRewardModel
from hf_reward_ext.fast_slow.train.preference_pairs import SIDES, with_prompt

logger = logging.getLogger(__name__)


def sample_judgments(
    judge: FastSlowRewardModel,
    dataset: Dataset | Sequence[dict],
    num_samples: int = 8,
    temperature: float = 1.0,
    max_new_tokens: int = 256,
    balance: bool = True,
    seed: int = 0,
) -> Dataset:
    """
    Add a column `judgments` of written judgments with correct final verdicts: rejection sampling for stage 1.

    Half of the samples of each judge prompt start with the correct first verdict, half with a wrong one. Of those with
    a correct final verdict, equally many of both kinds are kept, so that the model learns to correct first verdicts.

    Args:
        judge ([`FastSlowRewardModel`]): Judge to train, or a teacher with the same verdicts.
        dataset (`Dataset` or `list` of `dict`): Preference pairs.
        num_samples (`int`, *optional*): Number of samples per judge prompt, of which there are two per pair; even.
        temperature, max_new_tokens (*optional*): Sampling options.
        balance (`bool`, *optional*): Whether to drop the surplus of one kind; `False` keeps all correct judgments.
        seed (`int`, *optional*): Random seed for the choice of dropped judgments. Sampling uses torch's generator.

    Returns:
        `Dataset`: The rows with `judgments`, a list of `{about, first_verdict, text, verdict}` that may be empty.

    Raises:
        ValueError: Before any forward, if `num_samples` is odd, or another option is out of its range.

    Example:
    ```python
    >>> pairs = sample_judgments(judge, pairs, num_samples=8)
    >>> FastSlowTrainer(judge, FastSlowConfig("stage1"), train_dataset=pairs).train()
    ```
    """
    check_count("num_samples", num_samples, least=2)
    if num_samples % 2:
        raise ValueError(
            f"`num_samples` must be even, got {num_samples}: half of the samples start from the right verdict, half "
            "from a wrong one."
        )
    check_number("temperature", temperature, above=0)
    check_count("max_new_tokens", max_new_tokens)
    check_writing(judge.judge_prompt, num_samples // 2, temperature, max_new_tokens)
    rows = [with_prompt(row) for row in dataset]  # pyright: ignore[reportArgumentType]
    kept: dict[bool, list[tuple[int, dict]]] = {True: [], False: []}
    for start in range(0, len(rows), judge.batch_size):
        for right in (True, False):
            batch = rows[start : start + judge.batch_size]
            found = _sample(judge, batch, right, num_samples // 2, temperature, max_new_tokens)
            kept[right] += [(start + number, judgment) for number, judgment in found]
    logger.info("%d judgments kept from right first verdicts, %d from wrong ones.", len(kept[True]), len(kept[False]))
    chosen = _balanced(kept, seed) if balance else kept[True] + kept[False]
    judgments: list[list[dict]] = [[] for _ in rows]
    for number, judgment in chosen:
        judgments[number].append(judgment)
    return Dataset.from_list([{**row, "judgments": own} for row, own in zip(rows, judgments, strict=True)])


def _sample(
    judge: FastSlowRewardModel, rows: list[dict], right: bool, votes: int, temperature: float, max_new_tokens: int
) -> list[tuple[int, dict]]:
    """Return correct judgments and the numbers of their pairs, all from correct or all from wrong first verdicts."""
    judge_prompt = judge.judge_prompt
    prompts = [ids for row in rows for ids in _prompts(row, judge_prompt)]
    sides = [side for _ in rows for side in SIDES]
    best, worst = _extremes(judge_prompt)
    first = [best if (side == "chosen") == right else worst for side in sides]
    with judge.judging():
        batch = judge_rows(
            judge.causal_lm,
            prompts,
            judge_prompt,
            judge.gate.with_thresholds(ALWAYS, ALWAYS),
            first_verdicts=torch.tensor(first),
            num_votes=votes,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
        )
    return [
        (number // 2, judgment_row(vote, side, judge_prompt))
        for number, (side, writings) in enumerate(zip(sides, batch.writings, strict=True))
        for vote in writings
        if vote.verdict is not None and favors(vote.verdict, judge_prompt.values) == (side == "chosen")
    ]


def judgment_row(writing: WrittenJudgment, about: str, judge_prompt: JudgePrompt) -> dict:
    """Return a written judgment as a row for stage 1, with the analysis without prefix, marker and verdicts."""
    ids = writing.ids[1 + len(judge_prompt.prefix_ids) : -1]
    text = str(judge_prompt.tokenizer.decode(ids, skip_special_tokens=True))
    marker = judge_prompt.template.final_marker.rstrip()
    # Decoded together with the marker, because some tokenizers drop a leading space.
    marker = marker if marker in text else marker.lstrip()
    first = judge_prompt.first_ids.tolist().index(writing.ids[0])
    return {
        "about": about,
        "first_verdict": judge_prompt.verdicts[first],
        "text": text[: text.rindex(marker)],
        "verdict": judge_prompt.verdicts[writing.verdict or 0],
    }


def _prompts(row: dict, judge_prompt: JudgePrompt) -> list[list[int]]:
    responses = [row["chosen"], row["rejected"]]
    if judge_prompt.is_pairwise:
        return [judge_prompt.encode(row["prompt"], *order) for order in (responses, responses[::-1])]
    return [judge_prompt.encode(row["prompt"], response) for response in responses]


def _extremes(judge_prompt: JudgePrompt) -> tuple[int, int]:
    """Return the indices of the most and the least favorable verdict."""
    values = judge_prompt.values
    return (0, 1) if values is None else (int(values.argmax()), int(values.argmin()))


def _balanced(kept: dict[bool, list[tuple[int, dict]]], seed: int) -> list[tuple[int, dict]]:
    rng = random.Random(seed)
    size = min(map(len, kept.values()))
    return [one for kind in (True, False) for one in rng.sample(kept[kind], size)]
