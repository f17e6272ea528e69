"""ELHSR on the demo policy: heads trained on its samples, and ways to choose among 16 candidates."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from datasets import Dataset
from transformers.utils.logging import tqdm

from hf_reward_ext.base.scoring.votes import majority_vote
from hf_reward_ext.best_of_n.pruning import Pruning
from hf_reward_ext.best_of_n.staged import generate_staged
from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.sampling import Rollouts, draws_of, sample
from hf_reward_ext.elhsr import ELHSRConfig, ELHSRModel, ELHSRTrainer, HiddenStateReward

CANDIDATES = 16
TEMPERATURE = 0.8
PRUNING = Pruning(steps=(3, 7, 11, 15, 19, 23), keep=0.9, max_gap=2.0)


def prompts_of(task: ModuleType, split: str, count: int, seed: int = 0) -> list[str]:
    """Return `count` prompts of a split, selected by the seed."""
    if task is arithmetic:
        return [problem.prompt for problem in arithmetic.problems(split)[seed * count : (seed + 1) * count]]
    return [one.prompt for one in walk.random_walks(split, count, seed)]


def rollouts_of(policy, tokenizer, task: ModuleType, count: int, seed: int = 0) -> Rollouts:
    """Sample one labeled completion for each of `count` training prompts."""
    torch.manual_seed(seed)
    return sample(policy, tokenizer, prompts_of(task, "train", count, seed), task, temperature=TEMPERATURE)


def train_head(
    policy, tokenizer, rows: Sequence[dict], folder: Path, seed: int = 0, **settings
) -> tuple[ELHSRModel, float]:
    """Train a head on labeled samples, and return it with the seconds of training (including features)."""
    started = time.perf_counter()
    args = dict(
        standardize=True,
        learning_rate=3e-3,
        weight_decay=0.3,
        lr_scheduler_type="linear",
        num_train_epochs=60,
        validation_fraction=0.1,  # for calibration; the schedule ends at zero, so the last epoch is kept
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        report_to="none",
        logging_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )
    trainer = ELHSRTrainer(
        policy,
        ELHSRConfig(str(folder), **{**args, **settings}),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    return ELHSRModel.from_pretrained(folder), time.perf_counter() - started  # pyright: ignore[reportReturnType]


def with_prefixes(rows: Sequence[dict], lengths: Sequence[int]) -> list[dict]:
    """Return completions and their prefixes with the label of the whole, to train a head for pruning."""
    prefixes = [
        {**row, "completion_ids": row["completion_ids"][:length]}
        for row in rows
        for length in lengths
        if length < len(row["completion_ids"])
    ]
    return [*rows, *prefixes]


def choose(rollouts: Rollouts, scores: np.ndarray) -> np.ndarray:
    """Return whether the candidate with the highest score of each prompt is correct."""
    return rollouts.correct[np.arange(len(scores)), scores.argmax(1)].astype(float)


def choose_by_vote(rollouts: Rollouts, task: ModuleType) -> np.ndarray:
    """Return whether the most frequent answer of each prompt is correct."""
    winners = [majority_vote([task.extract_answer(text) for text in group])[0] for group in rollouts.completions]
    return np.array(
        [
            0.0 if winner is None else float(correct[winner])
            for winner, correct in zip(winners, rollouts.correct, strict=True)
        ]
    )


def sample_pruned(
    policy,
    tokenizer,
    head,
    prompts: Sequence[str],
    task: ModuleType,
    pruning: Pruning,
    num_candidates: int = CANDIDATES,
    seed: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return, per prompt, the correctness of pruned best-of-N and the tokens of all candidates.

    With a `seed`, candidates are those of [`sample`] with that seed, unless they are dropped.
    """
    right, tokens = [], []
    for start in tqdm(range(0, len(prompts), 32), desc="pruned"):
        batch = list(prompts[start : start + 32])
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        candidates = generate_staged(
            policy,
            HiddenStateReward(policy, head),
            **inputs,
            num_candidates=num_candidates,
            prune=pruning,
            draws=None if seed is None else draws_of(inputs, num_candidates, seed),
            max_new_tokens=task.MAX_NEW_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
        )
        shape = (len(batch), num_candidates)
        winners = candidates.rewards.masked_fill(candidates.pruned, -torch.inf).view(shape).argmax(1)
        completions = candidates.sequences[:, inputs["input_ids"].shape[1] :].view(*shape, -1)
        texts = tokenizer.batch_decode(completions[torch.arange(len(batch)), winners], skip_special_tokens=True)
        right += [task.is_correct(prompt, text) for prompt, text in zip(batch, texts, strict=True)]
        tokens += candidates.num_tokens.view(shape).sum(1).tolist()
    return np.array(right, dtype=float), np.array(tokens, dtype=float)
