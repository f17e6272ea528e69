"""ELHSR on the constraint task: heads of several sizes of training data beside controls on the same candidates."""

import time
from pathlib import Path

import numpy as np
import torch

from examples.demo_llm.sampling import Candidate
from examples.real_tasks.pool import Pool, features_of, prefix_rewards, rewards_of, rows_of
from examples.real_tasks.sizes import Size, result
from examples.real_tasks.text_model import train_text_model
from hf_reward_ext import ELHSRConfig, ELHSRModel, ELHSRTrainer
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.elhsr.feature_cache import FeatureCache

TOP_LOGPROBS = 20
PRUNED_AT = (8, 16, 24)
COUNT = 16  # candidates per problem in the table of heads


def train_head(
    policy,
    tokenizer,
    groups,
    validation,
    folder: Path,
    seed: int,
    features: str = "hidden_states",
    layers=None,
    num_epochs: int = 40,
    **settings,
) -> ELHSRModel:
    """
    Train a head, or load the one that was trained; its seconds, without the policy's forward, are kept beside it.

    Other settings are those of [`ELHSRConfig`].
    """
    if not (folder / "model.safetensors").exists():
        args = ELHSRConfig(
            str(folder),
            layers=layers,
            features=features,  # pyright: ignore[reportArgumentType]
            top_logprobs=TOP_LOGPROBS if features == "logits" else None,
            standardize=True,
            learning_rate=1e-3,
            weight_decay=1.0,
            num_train_epochs=num_epochs,
            per_device_train_batch_size=8,
            feature_cache="disk",
            feature_cache_dir=str(folder.parent / "features"),
            report_to="none",
            logging_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            **settings,
        )
        trainer = ELHSRTrainer(
            policy,
            args,
            train_dataset=rows_of(groups),
            eval_dataset=rows_of(validation),
            processing_class=tokenizer,
        )
        started = time.process_time()
        trainer.train()
        trainer.save_model()
        (folder / "seconds").write_text(f"{time.process_time() - started:.1f}")
    return ELHSRModel.from_pretrained(folder)  # pyright: ignore[reportReturnType]


def compare(policy, tokenizer, name: str, dtype: torch.dtype, pool: Pool, folder: Path, size: Size) -> dict:
    """Compare ways to choose one of the same candidates."""
    groups = pool.groups["test"]
    count = min(COUNT, size.num_candidates)
    right = np.array([[float(one.is_right) for one in group] for group in groups])
    lengths = np.array([[len(one.completion_ids) for one in group] for group in groups])
    tokens = lengths[:, :count].sum(1).mean()

    def chosen(scores: np.ndarray) -> np.ndarray:
        return right[np.arange(len(right)), scores[:, :count].argmax(1)]

    def measured(measure: str) -> np.ndarray:
        return np.array([[one.rewards[measure] for one in group] for group in groups])

    rows = [
        result("one sample", "no choice", right[:, :count].mean(1), tokens / count),
        result("length", f"shortest of {count}", chosen(-lengths.astype(float)), tokens),
        result("mean log-probability", f"most likely of {count}", chosen(measured("mean_log_probability")), tokens),
        result("group confidence", f"most confident of {count}", chosen(measured("confidence")), tokens),
        result("oracle", f"any of {count}", right[:, :count].max(1), tokens),
    ]
    pairs = {seed: pool.pairs("train", size.num_pairs, seed) for seed in size.seeds}
    text = [_text_rewards(tokenizer, pool, pairs[seed], name, dtype, folder, seed, count) for seed in size.seeds]
    what = f"classifier with LoRA, {len(pairs[size.seeds[0]])} pairs"
    rows.append(result("text reward model", what, [chosen(scores) for scores in text], tokens))

    layers = layers_of(policy)
    caches = {}
    for features in ("hidden_states", "logits"):
        for labels in size.num_labels if features == "hidden_states" else size.num_labels[-1:]:
            heads = [
                train_head(
                    policy,
                    tokenizer,
                    some_of(pool.groups["train"], labels, seed),
                    pool.groups["validation"],
                    folder / f"head-{features}-{labels}-{seed}",
                    seed,
                    features,
                    layers if features == "hidden_states" else None,
                    num_epochs=size.head_epochs,
                )
                for seed in size.seeds
            ]
            if features not in caches:
                read = groups if features == "hidden_states" else [group[:count] for group in groups]
                caches[features] = features_of(policy, heads[0], read, folder / "features")
            scores = [
                np.array([rewards_of(head, caches[features], row, count) for row in range(len(groups))])
                for head in heads
            ]
            seconds = [
                float((folder / f"head-{features}-{labels}-{seed}" / "seconds").read_text()) for seed in size.seeds
            ]
            kind = "ELHSR" if features == "hidden_states" else f"ELHSR, {TOP_LOGPROBS} log-probabilities"
            rows.append(
                result(
                    kind,
                    f"{labels} labels",
                    [chosen(one) for one in scores],
                    tokens,
                    seconds=float(np.mean(seconds)),
                    parameters=sum(weight.numel() for weight in heads[0].parameters()),
                )
            )
    rows += _pruned(caches["hidden_states"], folder, size, right, lengths)
    return {"rows": rows}


def layers_of(policy) -> list[int]:
    """Return every fifth layer."""
    return list(range(0, policy.config.num_hidden_layers + 1, 5))


def some_of(groups: list[list[Candidate]], labels: int, seed: int) -> list[list[Candidate]]:
    """Return problems with about `labels` candidates in all; the whole pool keeps its order in every seed."""
    count = max(2, labels // len(groups[0]))
    if count >= len(groups):
        return groups
    order = np.random.default_rng(seed).permutation(len(groups))[:count]
    return [groups[index] for index in sorted(order)]


def _text_rewards(tokenizer, pool: Pool, pairs, name, dtype, folder: Path, seed: int, count: int) -> np.ndarray:
    kept = folder / f"text-{seed}.npy"
    if not kept.exists():
        model = train_text_model(name, dtype, pool.as_chats(pairs), tokenizer, folder / f"text-{seed}", seed)
        scorer = as_single_scorer(model, tokenizer, batch_size=32)
        scores = [
            scorer([problem.messages] * count, [[{"role": "assistant", "content": one.text}] for one in group[:count]])
            for problem, group in zip(pool.problems["test"], pool.groups["test"], strict=True)
        ]
        np.save(kept, np.array(scores, dtype=float))
    return np.load(kept)


def _pruned(cache: FeatureCache, folder: Path, size: Size, right: np.ndarray, lengths: np.ndarray) -> list[dict]:
    """Return best-of-N and pruned best-of-N of every head of all labels, for every N of the pool."""
    heads = [
        ELHSRModel.from_pretrained(folder / f"head-hidden_states-{size.num_labels[-1]}-{seed}") for seed in size.seeds
    ]
    curves = folder / "prefixes.npz"
    width = int(lengths.max())
    if not curves.exists():
        found = np.full((len(heads), *right.shape, width), np.nan, dtype=np.float32)
        for number, head in enumerate(heads):
            for row in range(len(right)):
                for index, values in enumerate(prefix_rewards(head, cache, row, right.shape[1])):  # pyright: ignore[reportArgumentType]
                    found[number, row, index, : len(values)] = values.numpy()
        np.savez_compressed(curves, rewards=found)
    prefixes = np.load(curves)["rewards"]
    rows = []
    for count in [2**power for power in range(1, 7) if 2**power <= right.shape[1]]:
        plain, staged = [], {0.5: ([], []), 0.25: ([], [])}
        for found in prefixes:
            last = np.take_along_axis(found[:, :count], (lengths[:, :count] - 1)[..., None], 2)[..., 0]
            plain.append(right[np.arange(len(right)), last.argmax(1)])
            for keep, (correct, cost) in staged.items():
                kept = [prune(*one, keep) for one in zip(found[:, :count], lengths[:, :count], strict=True)]
                picks, used = zip(*kept, strict=True)
                correct.append(right[np.arange(len(right)), list(picks)])
                cost.append(np.mean(used))
        rows.append(result("ELHSR, best of N", f"best of {count}", plain, lengths[:, :count].sum(1).mean()))
        for keep, (correct, cost) in staged.items():
            what = f"{count} candidates, keep {keep} at {', '.join(map(str, PRUNED_AT))} tokens"
            rows.append(result("ELHSR, pruned", what, correct, np.mean(cost)))
    return rows


def prune(prefixes: np.ndarray, lengths: np.ndarray, keep: float) -> tuple[int, int]:
    """
    Return the chosen candidate and the number of tokens that are written when weak candidates are dropped on the way.

    Candidates are independent, so dropping one does not change the others: the pool shows what pruning would find. A
    finished candidate competes with its final reward.
    """
    alive = np.arange(len(lengths))
    used = np.zeros(len(lengths), dtype=int)
    for step in PRUNED_AT:
        used[alive] = np.minimum(lengths[alive], step)
        read = prefixes[alive, np.minimum(lengths[alive], step) - 1]
        left = max(1, int(np.ceil(keep * len(alive))))
        alive = alive[np.sort(np.argsort(-read, kind="stable")[:left])]
    used[alive] = lengths[alive]
    final = prefixes[alive, lengths[alive] - 1]
    return int(alive[final.argmax()]), int(used.sum())
