"""SLA: a reward channel on the chat model's hidden states, and a streaming look-ahead search with it."""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from examples.demo_llm.sampling import Candidate, encode, sample
from examples.demo_llm.settings import keep
from examples.demo_llm.tables import row
from examples.tasks import constraints
from examples.tasks.constraints import Problem
from hf_reward_ext import RewardTransformer, SLAConfig, SLATrainer, sla_generate
from hf_reward_ext.base.scoring.scorer import as_single_scorer

SEARCH = {"width": 2, "step": 6, "depth": 1}


def train_channel(policy, tokenizer, rows: Dataset, folder: Path, seed: int, num_epochs: int = 8) -> RewardTransformer:
    """Train the channel on preference pairs, or load the one that was trained."""
    if not (folder / "model.safetensors").exists():
        args = SLAConfig(
            str(folder),
            channel_size=64,
            layers=[10, 20, 30] if policy.config.num_hidden_layers >= 30 else None,
            learning_rate=1e-3,
            num_train_epochs=num_epochs,
            per_device_train_batch_size=16,
            cache_hidden_states=True,
            report_to="none",
            logging_steps=20,
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        )
        trainer = SLATrainer(policy, args, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        trainer.save_model()
    return RewardTransformer.from_pretrained(folder, base=policy)  # pyright: ignore[reportReturnType]


def compare(
    policy, tokenizer, channel: RewardTransformer, problems: list[Problem], pool: list[list[Candidate]], folder: Path
) -> dict:
    """
    Compare greedy decoding, look-ahead, and best-of-N by the same channel with the tokens of the look-ahead.

    Args:
        policy, tokenizer: Chat model.
        channel ([`RewardTransformer`]): Channel on the policy.
        problems (`list[Problem]`): Test problems.
        pool (`list[list[Candidate]]`): Sampled candidates of each problem, for best-of-N.
        folder (`Path`): Folder of finished problems.
    """
    greedy = sample(policy, tokenizer, problems, folder / "greedy", num_candidates=1, temperature=0, name="greedy")
    found = [
        keep(folder / f"{index:05}.json", lambda problem=problem: search(channel, tokenizer, problem, **SEARCH))
        for index, problem in enumerate(tqdm(problems, desc="look-ahead", unit="problem"))
    ]
    budget = np.mean([one["num_row_tokens"] for one in found])
    lengths = np.array([[len(one.completion_ids) for one in group] for group in pool])
    count = int(np.clip(round(budget / lengths.mean()), 1, lengths.shape[1]))
    scorer = as_single_scorer(channel, tokenizer)
    best = []
    for problem, group in zip(problems, pool, strict=True):
        completions = [[{"role": "assistant", "content": one.text}] for one in group[:count]]
        scores = scorer([problem.messages] * count, completions)
        best.append(float(group[int(np.argmax(np.asarray(scores, dtype=float)))].is_right))
    rows = [
        row("greedy", "most probable token", [group[0].is_right for group in greedy], _mean_length(greedy)),
        row("best of N", f"best of {count} by the channel", best, lengths[:, :count].sum(1).mean()),
        row(
            "look-ahead",
            "width {width}, step {step}, depth {depth}".format(**SEARCH),
            [one["is_right"] for one in found],
            budget,
        ),
    ]
    return {"rows": rows, "tree": {"prompt": problems[0].question, **found[0]["tree"]}}


def _mean_length(groups: list[list[Candidate]]) -> float:
    return float(np.mean([len(one.completion_ids) for group in groups for one in group]))


@torch.no_grad()
def search(channel: RewardTransformer, tokenizer, problem: Problem, **settings) -> dict:
    """Return the text of a look-ahead search, whether it is right, its cost, and its tree."""
    inputs = encode(tokenizer, [problem])
    out = channel.generate(
        **inputs,
        custom_generate=sla_generate,
        max_new_tokens=constraints.MAX_NEW_TOKENS,
        return_tree=True,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    text = tokenizer.decode(out.sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    return {
        "text": text,
        "is_right": constraints.is_right(problem, text),
        "num_row_tokens": out.num_row_tokens,
        "tree": _readable(out.trees[0], tokenizer),
    }


def _readable(node: dict, tokenizer) -> dict:
    return {
        "text": tokenizer.decode(node["tokens"], skip_special_tokens=True),
        "score": round(float(node["score"]), 3),
        "is_confirmed": bool(node["is_confirmed"]),
        "children": [_readable(child, tokenizer) for child in node["children"]],
    }
