"""ELHSR on the demo policy: heads trained on its samples, compared with other ways to choose among 16 candidates."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from hf_reward_ext.base.scoring.votes import majority_vote
from hf_reward_ext.best_of_n.pruning import Pruning
from hf_reward_ext.best_of_n.staged import generate_staged
from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.sampling import Rollouts, sample
from hf_reward_ext.demo.text_reward_model import train_text_reward_model
from hf_reward_ext.elhsr import ELHSRConfig, ELHSRModel, ELHSRTrainer, HiddenStateReward
from hf_reward_ext.evaluation import Estimate, mean_with_interval

CANDIDATES = 16
TEMPERATURE = 0.8
PRUNING = Pruning(steps=(3, 7, 11, 15, 19, 23), keep=0.9, max_gap=2.0)


class Result(NamedTuple):
    """Row of the result table; `right` has the correctness per problem."""

    task: str
    method: str
    what: str
    accuracy: Estimate
    tokens: float
    seconds: float
    right: list[float]


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


def compare(policy, tokenizer, folder: Path, *, num_train: Sequence[int], num_test: int, seed: int = 0) -> list[Result]:
    """
    Compare ways to choose among 16 samples of the arithmetic task, on held-out problems.

    Args:
        policy, tokenizer: Policy and tokenizer of the demo.
        folder (`Path`): Folder of the heads.
        num_train (`list[int]`): Numbers of labeled completions to train on, one per problem.
        num_test (`int`): Number of held-out problems.
        seed (`int`): Random seed of problems, samples and heads.
    """
    prompts = prompts_of(arithmetic, "test", num_test, seed)

    def candidates(head=None) -> tuple[Rollouts, float]:
        started = time.perf_counter()
        torch.manual_seed(seed + 1)  # the same candidates for every head
        rollouts = sample(
            policy, tokenizer, prompts, arithmetic, num_candidates=CANDIDATES, temperature=TEMPERATURE, head=head
        )
        return rollouts, time.perf_counter() - started

    greedy = sample(policy, tokenizer, prompts, arithmetic, temperature=0)
    tests, sampling = candidates()
    tokens, correct = float(tests.num_tokens.sum(1).mean()), tests.correct.astype(float)
    rows = [
        _row("arithmetic", "greedy", "no choice", greedy.correct[:, 0].astype(float), float(greedy.num_tokens.mean())),
        _row("arithmetic", "one sample", "no choice", correct.mean(1), tokens / CANDIDATES),
        _row("arithmetic", "majority", "most frequent of 16", choose_by_vote(tests, arithmetic), tokens, sampling),
        _row("arithmetic", "log-probability", "most likely of 16", choose(tests, tests.mean_logps), tokens, sampling),
    ]
    labeled = rollouts_of(policy, tokenizer, arithmetic, max(num_train), seed)
    flat = [text for group in tests.completions for text in group]
    repeated = [prompt for prompt in prompts for _ in range(CANDIDATES)]
    for count in num_train:
        part = labeled._replace(rows=labeled.rows[:count])
        scorer, seconds = train_text_reward_model(policy, tokenizer, part, folder / f"text-{count}", seed)
        scores = scorer(repeated, flat).numpy().reshape(correct.shape)
        what = f"copy of the policy fine-tuned on {count} labels"
        rows.append(_row("arithmetic", "text reward model", what, choose(tests, scores), tokens, seconds))
        for name, what, settings in (
            ("ELHSR, logits", "linear head on logits", {"features": "logits"}),
            ("ELHSR", "linear head on hidden states", {}),
        ):
            head, seconds = train_head(
                policy, tokenizer, part.rows, folder / f"{'-'.join(name.lower().split(', '))}-{count}", seed, **settings
            )
            scored, _ = candidates(head)
            right = choose(scored, scored.rewards)
            rows.append(_row("arithmetic", name, f"{what}, {count} labels", right, tokens, seconds))
    rows.append(_row("arithmetic", "any of 16", "oracle", correct.max(1), tokens, sampling))
    return rows


def compare_pruning(policy, tokenizer, folder: Path, *, num_train: int, num_test: int, seed: int = 0) -> list[Result]:
    """Compare best-of-N with and without pruning on the walk task, whose failures show early."""
    labeled = rollouts_of(policy, tokenizer, walk, num_train, seed)
    head, seconds = train_head(
        policy, tokenizer, with_prefixes(labeled.rows, PRUNING.steps), folder / "elhsr-walk", seed, num_train_epochs=15
    )
    prompts = prompts_of(walk, "test", num_test, seed)
    started = time.perf_counter()
    plain = sample(
        policy, tokenizer, prompts, walk, num_candidates=CANDIDATES, temperature=TEMPERATURE, head=head
    )  # fmt: skip
    plain_seconds = time.perf_counter() - started
    correct = plain.correct.astype(float)
    started = time.perf_counter()
    right, pruned_tokens = sample_pruned(policy, tokenizer, head, prompts, walk, PRUNING)
    pruned_seconds = time.perf_counter() - started
    tokens = float(plain.num_tokens.sum(1).mean())
    what = f"linear head, {num_train} labels ({seconds:.0f} s)"
    pruned_what = f"the same; checked after {', '.join(map(str, PRUNING.steps))} tokens"
    return [
        _row("walk", "one sample", "no choice", correct.mean(1), tokens / CANDIDATES),
        _row("walk", "log-probability", "most likely of 16", choose(plain, plain.mean_logps), tokens, plain_seconds),
        _row("walk", "ELHSR", what, choose(plain, plain.rewards), tokens, plain_seconds),
        _row("walk", "ELHSR, pruned", pruned_what, right, float(pruned_tokens.mean()), pruned_seconds),
        _row("walk", "any of 16", "oracle", correct.max(1), tokens, plain_seconds),
    ]


def sample_pruned(
    policy,
    tokenizer,
    head,
    prompts: Sequence[str],
    task: ModuleType,
    pruning: Pruning,
    num_candidates: int = CANDIDATES,
) -> tuple[np.ndarray, np.ndarray]:
    """Return, per prompt, the correctness of pruned best-of-N and the tokens of all candidates."""
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


def _row(task: str, method: str, what: str, right: np.ndarray, tokens: float, seconds: float = 0.0) -> Result:
    return Result(task, method, what, mean_with_interval(right), tokens, seconds, right.tolist())
