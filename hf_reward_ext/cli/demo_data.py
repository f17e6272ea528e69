"""Rows of the demo's arithmetic task as JSON lines, to try the other commands on without a network."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch

from hf_reward_ext.base.saving.atomic import replace_text
from hf_reward_ext.demo import arithmetic, judge
from hf_reward_ext.demo.elhsr import TEMPERATURE, prompts_of
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample

CANDIDATES = 4
JUDGE_PAIRS = 6  # per problem: they are computed, not sampled


def write_demo_data(folder: str | Path, num_train: int, num_test: int, seed: int = 0) -> dict[str, int]:
    """
    Samples the demo policy and writes what each method trains on.

    Args:
        folder (`str` or `Path`): Gets `completions/`, `pairs/` and `judge/`, each with `train.jsonl`,
            `validation.jsonl` (to choose and calibrate on) and `test.jsonl`, and `prompts.jsonl`, the problems of the
            test files.
        num_train, num_test (`int`): Problems; pairs are made of those with a right and a wrong sample.
        seed (`int`): Of problems and samples.

    Returns:
        `dict`: The number of rows of each file.
    """
    folder = Path(folder)
    policy, tokenizer = load_policy()
    counts = {}
    for split, count in (("train", num_train), ("dev", num_test), ("test", num_test)):
        file = "validation.jsonl" if split == "dev" else f"{split}.jsonl"  # as `datasets` calls that split
        prompts = prompts_of(arithmetic, split, count, seed)
        torch.manual_seed(seed)
        rollouts = sample(
            policy, tokenizer, prompts, arithmetic, num_candidates=CANDIDATES, temperature=TEMPERATURE
        )  # fmt: skip
        completions, pairs = [], []
        for prompt, texts, correct in zip(prompts, rollouts.completions, rollouts.correct, strict=True):
            completions.append({"prompt": prompt, "completion": texts[0], "label": float(correct[0])})
            right = next((text for text, is_right in zip(texts, correct, strict=True) if is_right), None)
            wrong = next((text for text, is_right in zip(texts, correct, strict=True) if text and not is_right), None)
            if right is not None and wrong is not None:
                pairs.append({"prompt": prompt, "chosen": right, "rejected": wrong})
        counts |= _write(folder / "completions" / file, completions)
        counts |= _write(folder / "pairs" / file, pairs)
        counts |= _write(folder / "judge" / file, judge.pairs(split, JUDGE_PAIRS * count, seed))
    return counts | _write(folder / "prompts.jsonl", ({"prompt": prompt} for prompt in prompts))


def _write(path: Path, rows: Iterable) -> dict[str, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) + "\n" for row in rows]
    replace_text(path, "".join(lines))
    return {str(path): len(lines)}
