"""ELHSR: a linear head on the hidden states of the chat model, trained on its own checked samples."""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from examples.demo_llm.sampling import Candidate, sample
from examples.demo_llm.settings import Size
from examples.demo_llm.tables import row
from examples.tasks.constraints import Problem
from hf_reward_ext import ELHSRConfig, ELHSRModel, ELHSRTrainer


def train_head(policy, tokenizer, samples: list[list[Candidate]], folder: Path, seed: int) -> ELHSRModel:
    """Train a head on labeled samples, or load the one that was trained."""
    if not (folder / "model.safetensors").exists():
        rows = [
            {
                "prompt_ids": one.prompt_ids,
                "completion_ids": one.completion_ids,
                "label": float(one.is_right),
            }
            for group in samples
            for one in group
        ]
        args = ELHSRConfig(
            str(folder),
            layers=list(range(0, policy.config.num_hidden_layers + 1, 5)),
            standardize=True,
            learning_rate=1e-3,
            weight_decay=1.0,
            num_train_epochs=40,
            per_device_train_batch_size=64,
            report_to="none",
            logging_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        )
        trainer = ELHSRTrainer(policy, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        trainer.train()
        trainer.save_model()
    return ELHSRModel.from_pretrained(folder)  # pyright: ignore[reportReturnType]


def candidates(
    policy, tokenizer, problems: list[Problem], head: ELHSRModel, folder: Path, size: Size, seed: int
) -> list[list[Candidate]]:
    """Return the candidates of every problem, with the head's rewards."""
    return sample(
        policy,
        tokenizer,
        problems,
        folder,
        num_candidates=size.num_candidates,
        head=head,
        prompts_per_batch=4,
        seed=seed + 2,
        name=f"{size.num_candidates} candidates per test problem",
    )


def compare(tokenizer, problems: list[Problem], groups: list[list[Candidate]]) -> dict:
    """Compare ways to choose among the same candidates, and keep the best and the worst of a few problems."""
    count = len(groups[0])
    right = np.array([[one.is_right for one in group] for group in groups], dtype=float)
    lengths = np.array([[len(one.completion_ids) for one in group] for group in groups])
    tokens = lengths.sum(1).mean()

    def chosen(scores: np.ndarray) -> np.ndarray:
        return right[np.arange(len(right)), scores.argmax(1)]

    def rewards(name: str) -> np.ndarray:
        return np.array([[one.rewards[name] for one in group] for group in groups])

    rows = [
        row("one sample", "no choice", right.mean(1), tokens / count),
        row("shortest", f"shortest of {count}", chosen(-lengths.astype(float)), tokens),
        row("log-probability", f"most likely of {count}", chosen(rewards("mean_log_probability")), tokens),
        row("confidence", f"lowest group confidence, best of {count}", chosen(rewards("confidence")), tokens),
        row("ELHSR", f"best of {count} by the head", chosen(rewards("head")), tokens),
        row(f"any of {count}", "oracle on the same candidates", right.max(1), tokens),
    ]
    return {"rows": rows, "samples": [_extremes(tokenizer, *pair) for pair in zip(problems, groups, strict=True)][:6]}


def _extremes(tokenizer, problem: Problem, group: list[Candidate]) -> dict:
    ordered = sorted(group, key=lambda one: one.rewards["head"])
    return {
        "prompt": problem.question,
        "best": _tokens(tokenizer, ordered[-1]),
        "worst": _tokens(tokenizer, ordered[0]),
    }


def _tokens(tokenizer, candidate: Candidate) -> dict:
    """Return the tokens of a candidate with the reward of the text up to each."""
    shown = [
        (tokenizer.decode([token]), reward)
        for token, reward in zip(candidate.completion_ids, candidate.token_rewards, strict=True)
        if token not in tokenizer.all_special_ids
    ]
    return {
        "text": candidate.text,
        "is_right": candidate.is_right,
        "reward": candidate.rewards["head"],
        "tokens": shown,
    }
