"""Fast-Slow on the constraint task: fast, gated and always written judgments, and other gates; LLMBar as transfer."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from examples.demo_llm.judging import judge_rows, train_judge
from examples.demo_llm.settings import keep
from examples.real_tasks.pool import Pool
from examples.real_tasks.sizes import Size, result
from hf_reward_ext import FastSlowRewardModel
from hf_reward_ext.evaluation import evaluate_preferences

CAMEL_MARGIN = 5.0  # nats between the two verdicts, from CAMEL (arXiv 2602.20670)
NUM_TEST_PAIRS = 120


def compare(policy, tokenizer, name: str, dtype: torch.dtype, pool: Pool, folder: Path, size: Size) -> dict:
    """Compare ways to decide which pairs are judged in writing, on the same judgments of both paths."""
    ways: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for seed in size.seeds:
        rows, held_out, test = (
            judge_rows(pool.problems[split], pool.pairs(split, count, 0 if split == "test" else seed), seed)
            for split, count in (("train", size.num_pairs), ("validation", 100), ("test", NUM_TEST_PAIRS))
        )
        judge = train_judge(name, dtype, rows, held_out, folder / f"judge-{seed}", seed, num_epochs=1)
        found = keep(folder / f"judged-{seed}.json", lambda judge=judge, test=test: _judge(judge, test))
        for way, (what, written) in _gates(found).items():
            pick = {key: np.array(found[key]) for key in ("fast_right", "slow_right", "fast_tokens", "slow_tokens")}
            right = (1 - written) * pick["fast_right"] + written * pick["slow_right"]
            tokens = (1 - written) * pick["fast_tokens"] + written * pick["slow_tokens"]
            ways.setdefault((way, what), []).append((right, tokens, written))
    rows = [
        result(
            way,
            what,
            [right for right, _, _ in seeds],
            float(np.mean([tokens for _, tokens, _ in seeds])),
            written=round(float(np.mean([written for _, _, written in seeds])), 4),
        )
        for (way, what), seeds in ways.items()
    ]
    return {"rows": rows}


def _judge(judge: FastSlowRewardModel, rows: list[dict]) -> dict:
    columns = [[row[name] for row in rows] for name in ("prompt", "chosen", "rejected")]
    fast, slow, gated = (judge.judge(*columns, mode=mode) for mode in ("fast", "slow", "gated"))
    return {
        "fast_right": [_right(one.score) for one in fast],
        "slow_right": [_right(one.score) for one in slow],
        "fast_tokens": [one.num_tokens for one in fast],
        "slow_tokens": [one.num_tokens for one in slow],
        "written": [float(one.mode == "slow") for one in gated],
        "margin": [abs(one.fast_scores[0] - one.fast_scores[1]) for one in fast],
    }


def _right(score: float) -> float:
    return 0.5 if score == 0 else float(score > 0)


def _gates(found: dict) -> dict[str, tuple[str, np.ndarray]]:
    """Return which pairs each way judges in writing: its share of each pair."""
    gated = np.array(found["written"])
    is_close = np.array(found["margin"]) < CAMEL_MARGIN
    return {
        "fast": ("one token per response", np.zeros(len(gated))),
        "gated": ("both confidences, at most 60 % of the tokens", gated),
        "random gate": ("as many pairs as the gate, by chance", np.full(len(gated), gated.mean())),
        "margin": (f"where verdicts differ by less than {CAMEL_MARGIN:g} nats", is_close * 1.0),
        "slow": ("always writes", np.ones(len(gated))),
    }  # fmt: skip


def transfer(folder: Path, data: Path, size: Size) -> dict:
    """Measure the fast verdict of the judges on LLMBar, whose requests they were not trained on."""
    with gzip.open(data / "llmbar/llmbar.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [{name: row[name] for name in ("input", "output_1", "output_2", "label", "subset")} for row in rows]
    rows = [row for row in rows if len(row["input"] + row["output_1"] + row["output_2"]) < 3000]
    scores = []
    for seed in size.seeds:
        kept = keep(folder / f"llmbar-{seed}.json", lambda seed=seed: _score(folder / f"judge-{seed}", rows))
        scores.append(kept["right"])
    return {"rows": [result("fast", f"judge of the constraint task on {len(rows)} pairs of LLMBar", scores)]}


def _score(folder: Path, rows: list[dict]) -> dict:
    judge = FastSlowRewardModel.from_pretrained(str(folder), batch_size=8)
    pairs = [
        {
            "prompt": row["input"],
            "chosen": row[f"output_{row['label']}"],
            "rejected": row[f"output_{3 - int(row['label'])}"],
        }
        for row in rows
    ]
    return {"right": [float(row["correct"]) for row in evaluate_preferences(fast_scorer(judge), pairs).rows]}


def fast_scorer(judge: FastSlowRewardModel) -> Callable[..., list[float]]:
    """Return the reward function of a judge's fast verdicts."""

    def fast_score(prompts, completions) -> list[float]:
        return judge.score(prompts, completions, mode="fast").tolist()

    return fast_score
