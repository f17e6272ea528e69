"""ELHSR on the demo policy: heads trained on its own rollouts, and every other way to choose among 16 candidates."""

import time
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from hf_reward_ext.demo import arithmetic, walk
from hf_reward_ext.demo.sampling import Rollouts, sample
from hf_reward_ext.demo.text_reward_model import train_text_reward_model
from hf_reward_ext.elhsr import ELHSRConfig, ELHSRModel, ELHSRTrainer, Pruning
from hf_reward_ext.elhsr.pruning import generate_pruned
from hf_reward_ext.evaluation import Estimate, majority_curve, mean_with_interval

CANDIDATES = 16
PRUNING = Pruning(steps=(4, 7, 10))


class Result(NamedTuple):
    """One row of the tour's table."""

    task: str
    method: str
    what: str
    accuracy: Estimate
    tokens: float
    seconds: float


def prompts_of(task: ModuleType, split: str, count: int, seed: int = 0) -> list[str]:
    """The first `count` prompts of a split; another seed takes others."""
    if task is arithmetic:
        return [problem.prompt for problem in arithmetic.problems(split)[seed * count : (seed + 1) * count]]
    return [one.prompt for one in walk.random_walks(split, count, seed)]


def train_head(
    policy, tokenizer, rollouts: Rollouts, folder: Path, seed: int = 0, **settings
) -> tuple[ELHSRModel, float]:
    """A head trained on labelled rollouts, and the seconds it took (features included)."""
    started = time.perf_counter()
    args = dict(
        learning_rate=1e-3,
        num_train_epochs=30,
        per_device_train_batch_size=4,
        report_to="none",
        logging_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )
    trainer = ELHSRTrainer(
        policy,
        ELHSRConfig(str(folder), **{**args, **settings}),
        train_dataset=Dataset.from_list(rollouts.rows),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    return ELHSRModel.from_pretrained(folder), time.perf_counter() - started


def choose(scores: np.ndarray, correct: np.ndarray) -> Estimate:
    """Accuracy of the candidate with the highest score of each prompt."""
    return mean_with_interval(correct[np.arange(len(scores)), scores.argmax(1)])


def compare(policy, tokenizer, folder: Path, *, num_train: int, num_test: int, seed: int = 0) -> list[Result]:
    """
    Every way to choose among 16 samples of the arithmetic task, on held-out problems.

    Args:
        policy, tokenizer: Of the demo.
        folder (`Path`): For the heads.
        num_train (`int`): Labelled completions to train on, 8 per problem.
        num_test (`int`): Held-out problems.
        seed (`int`): Of problems, samples and heads.
    """
    torch.manual_seed(seed)
    rollouts = sample(
        policy, tokenizer, prompts_of(arithmetic, "train", num_train // 8, seed), arithmetic, num_candidates=8
    )
    head, seconds = train_head(policy, tokenizer, rollouts, folder / "elhsr", seed)
    logits_head, logits_seconds = train_head(
        policy, tokenizer, rollouts, folder / "elhsr-logits", seed, features="logits", standardize=True
    )
    text_scorer, text_seconds = train_text_reward_model(policy, tokenizer, rollouts, folder / "text", seed)

    prompts = prompts_of(arithmetic, "test", num_test, seed)
    greedy = sample(policy, tokenizer, prompts, arithmetic, temperature=0)
    started = time.perf_counter()
    torch.manual_seed(seed + 1)
    tests = sample(policy, tokenizer, prompts, arithmetic, num_candidates=CANDIDATES, head=head)
    sampling = time.perf_counter() - started
    # The same seed gives the same candidates, now scored by the other head.
    torch.manual_seed(seed + 1)
    by_logits = sample(policy, tokenizer, prompts, arithmetic, num_candidates=CANDIDATES, head=logits_head)
    flat = [text for group in tests.completions for text in group]
    by_text = text_scorer([prompt for prompt in prompts for _ in range(CANDIDATES)], flat)
    answers = [[arithmetic.extract_answer(text) for text in group] for group in tests.completions]

    tokens, name = float(tests.num_tokens.sum(1).mean()), "arithmetic"
    correct = tests.correct.astype(float)
    return [
        Result(
            name, "greedy", "no choice", mean_with_interval(greedy.correct[:, 0]), float(greedy.num_tokens.mean()), 0
        ),
        Result(name, "one sample", "no choice", mean_with_interval(correct.mean(1)), tokens / CANDIDATES, 0),
        Result(
            name, "majority", "most frequent answer of 16",
            majority_curve(answers, correct, ks=[CANDIDATES])[CANDIDATES], tokens, sampling,
        ),
        Result(name, "log-probability", "most likely of 16", choose(tests.mean_logps, correct), tokens, sampling),
        Result(
            name, "text reward model", f"fine-tuned copy of the policy, {num_train} labels",
            choose(by_text.numpy().reshape(correct.shape), correct), tokens, text_seconds,
        ),
        Result(
            name, "ELHSR, logits", f"linear head on logits, {num_train} labels",
            choose(by_logits.rewards, by_logits.correct.astype(float)), float(by_logits.num_tokens.sum(1).mean()),
            logits_seconds,
        ),
        Result(
            name, "ELHSR", f"linear head on hidden states, {num_train} labels", choose(tests.rewards, correct), tokens,
            seconds,
        ),
        Result(name, "any of 16", "oracle", mean_with_interval(correct.max(1)), tokens, sampling),
    ]  # fmt: skip


def compare_pruning(policy, tokenizer, folder: Path, *, num_train: int, num_test: int, seed: int = 0) -> list[Result]:
    """Best-of-N with and without pruning on the walk, whose prefixes show early that they fail."""
    torch.manual_seed(seed)
    rollouts = sample(policy, tokenizer, prompts_of(walk, "train", num_train // 8, seed), walk, num_candidates=8)
    head, seconds = train_head(policy, tokenizer, rollouts, folder / "elhsr-walk", seed)
    prompts = prompts_of(walk, "test", num_test, seed)
    started = time.perf_counter()
    plain = sample(policy, tokenizer, prompts, walk, num_candidates=CANDIDATES, head=head)
    plain_seconds = time.perf_counter() - started
    correct = plain.correct.astype(float)
    started = time.perf_counter()
    pruned, pruned_tokens = sample_pruned(policy, tokenizer, head, prompts, PRUNING)
    pruned_seconds = time.perf_counter() - started
    tokens = float(plain.num_tokens.sum(1).mean())
    what = f"linear head, {num_train} labels ({seconds:.0f} s)"
    return [
        Result("walk", "one sample", "no choice", mean_with_interval(correct.mean(1)), tokens / CANDIDATES, 0),
        Result("walk", "ELHSR", what, choose(plain.rewards, correct), tokens, plain_seconds),
        Result(
            "walk", "ELHSR, pruned", f"the same; 16 become 8, 4, 2 after {PRUNING.steps} tokens",
            mean_with_interval(pruned), float(pruned_tokens.mean()), pruned_seconds,
        ),
        Result("walk", "any of 16", "oracle", mean_with_interval(correct.max(1)), tokens, plain_seconds),
    ]  # fmt: skip


def sample_pruned(policy, tokenizer, head, prompts: list[str], pruning: Pruning) -> tuple[np.ndarray, np.ndarray]:
    """Per prompt: whether the winner of pruned best-of-16 on the walk is right, and the tokens that all 16 took."""
    right, tokens = [], []
    for start in tqdm(range(0, len(prompts), 32), desc="pruned"):
        batch = prompts[start : start + 32]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        candidates = generate_pruned(
            policy,
            head,
            **inputs,
            num_candidates=CANDIDATES,
            pruning=pruning,
            max_new_tokens=walk.MAX_NEW_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            do_sample=True,
            top_k=0,
        )
        rewards = candidates.rewards.masked_fill(candidates.pruned, -torch.inf).view(len(batch), CANDIDATES)
        completions = candidates.sequences[:, inputs["input_ids"].shape[1] :].view(len(batch), CANDIDATES, -1)
        winners = completions[torch.arange(len(batch)), rewards.argmax(1)]
        texts = tokenizer.batch_decode(winners, skip_special_tokens=True)
        right += [walk.is_correct(prompt, text) for prompt, text in zip(batch, texts, strict=True)]
        tokens += candidates.num_tokens.view(len(batch), CANDIDATES).sum(1).tolist()
    return np.array(right, dtype=float), np.array(tokens, dtype=float)
