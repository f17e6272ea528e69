"""ELHSR on GSM8K: a chat model solves word problems, and heads of its hidden states choose among its solutions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from examples.demo_llm.sampling import sample
from examples.real_tasks.best_of_n import train_head
from examples.real_tasks.pool import features_of, rewards_of
from examples.real_tasks.sizes import Size, result
from examples.tasks import gsm8k
from hf_reward_ext.base.scoring.votes import majority_vote

NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 32, 8, 32
NUM_SAMPLES, NUM_CANDIDATES = 8, 16


def compare(policy, tokenizer, name: str, dtype: torch.dtype, data: Path, folder: Path, size: Size) -> dict:
    """Compare ways to choose one of the same solutions."""
    small = size.num_test < NUM_TEST
    train = gsm8k.read_problems(data / "gsm8k/train.jsonl.gz")
    test = gsm8k.read_problems(data / "gsm8k/test.jsonl.gz")
    counts = (4, 2, 2) if small else (NUM_TRAIN, NUM_VALIDATION, NUM_TEST)
    parts = {
        "train": (train[: counts[0]], NUM_SAMPLES, 4),
        "validation": (train[counts[0] : counts[0] + counts[1]], NUM_SAMPLES, 4),
        "test": (test[: counts[2]], NUM_CANDIDATES, 2),
    }
    groups = {
        split: sample(
            policy,
            tokenizer,
            problems,
            folder / "samples" / split,
            num_candidates=count,
            task=gsm8k,
            prompts_per_batch=prompts,
            seed=number,
            name=f"solutions for {split}",
        )  # fmt: skip
        for number, (split, (problems, count, prompts)) in enumerate(parts.items())
    }
    right = np.array([[float(one.is_right) for one in group] for group in groups["test"]])
    lengths = np.array([[len(one.completion_ids) for one in group] for group in groups["test"]])
    answers = [[gsm8k.extract_answer(one.text) for one in group] for group in groups["test"]]
    tokens = float(lengths.sum(1).mean())

    def chosen(scores: np.ndarray) -> np.ndarray:
        return right[np.arange(len(right)), scores.argmax(1)]

    def measured(measure: str) -> np.ndarray:
        return np.array([[one.rewards[measure] for one in group] for group in groups["test"]])

    def voted(weights: Sequence[list[float] | None]) -> list[float]:
        winners = [majority_vote(own, weight)[0] for own, weight in zip(answers, weights, strict=True)]
        return [0.0 if one is None else row[one] for one, row in zip(winners, right, strict=True)]

    rows = [
        result("one sample", "no choice", right.mean(1), tokens / NUM_CANDIDATES),
        result("length", f"shortest of {NUM_CANDIDATES}", chosen(-lengths.astype(float)), tokens),
        result(
            "mean log-probability",
            f"most likely of {NUM_CANDIDATES}",
            chosen(measured("mean_log_probability")),
            tokens,
        ),
        result("group confidence", f"most confident of {NUM_CANDIDATES}", chosen(measured("confidence")), tokens),
        result("majority", f"most frequent answer of {NUM_CANDIDATES}", voted([None] * len(answers)), tokens),
        result("oracle", f"any of {NUM_CANDIDATES}", right.max(1), tokens),
    ]  # fmt: skip
    layers = list(range(0, policy.config.num_hidden_layers + 1, 4))
    heads = [
        train_head(
            policy, tokenizer, groups["train"], groups["validation"], folder / f"head-{seed}", seed, layers=layers
        )
        for seed in size.seeds
    ]
    cache = features_of(policy, heads[0], groups["test"], folder / "features")
    scores = [np.array([rewards_of(head, cache, row, NUM_CANDIDATES) for row in range(len(right))]) for head in heads]
    labels = sum(map(len, groups["train"]))
    rows.append(result("ELHSR", f"best of {NUM_CANDIDATES}, {labels} labels", [chosen(one) for one in scores], tokens))
    weighted = [voted(_weights(one)) for one in scores]
    rows.append(result("ELHSR, votes", f"votes weighted by exp(reward), {labels} labels", weighted, tokens))
    return {"rows": rows}


def _weights(scores: np.ndarray) -> list[list[float] | None]:
    return [np.exp(row - row.max()).tolist() for row in scores]
