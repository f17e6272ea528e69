"""
What look-ahead search gains on the demo's walks, against greedy, sampling and best-of-N at the same number of tokens.

    python -m hf_reward_ext.demo.train --seed 1 --output seed1   # and so on
    python examples/benchmarks/sla_quality.py --policies seed0 seed1 seed2 --output quality

Pairs are the policy's own right and wrong walks. Prints Markdown tables and writes `sla_quality.json`. Intervals:
bootstrap over the problems of all seeds.
"""

import argparse
import copy
import json
import random
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from scipy.special import comb
from transformers import set_seed
from trl import DPOConfig, DPOTrainer

from hf_reward_ext.base.token_rewards import masked_mean
from hf_reward_ext.demo import walk
from hf_reward_ext.demo.elhsr import TEMPERATURE
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import Rollouts, sample
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.sla import RewardTransformer, SLAConfig, SLATrainer, sla_generate
from hf_reward_ext.sla.data_collator import PairCollator
from hf_reward_ext.sla.metrics import preference_metrics

CANDIDATES = 16
# A walk is written in moves of four tokens, of which the policy is unsure of one only, the sign.
SEARCHES = {
    "(2, 4, 0)": dict(width=2, step=4, depth=0),
    "(2, 4, 2)": dict(width=2, step=4, depth=2),
    "(2, 10, 2)": dict(width=2, step=10, depth=2),
    "(2, 1, 3)": dict(width=2, step=1, depth=3),
    "(2, 1, 3), fork above 0.3 nats": dict(width=2, step=1, depth=3, branch_entropy=0.3),
    "(2, 1, 7), fork above 0.3 nats": dict(width=2, step=1, depth=7, branch_entropy=0.3),
    "(2, 1, 11), fork above 0.3 nats": dict(width=2, step=1, depth=11, branch_entropy=0.3),
    "the same, mean of leaves": dict(width=2, step=1, depth=11, branch_entropy=0.3, aggregate="mean"),
    "the same, without the prompt's reward": dict(width=2, step=1, depth=11, branch_entropy=0.3, score_prompt=False),
}
CHANNELS = {
    "all layers": dict(channel_size=32),
    "head on the last state": dict(layers=[-1]),
    "MLP on the last state, as many parameters": dict(layers=[-1], head_size=115),
}


def prompts_of(split: str, count: int, seed: int) -> list[str]:
    return [one.prompt for one in walk.random_walks(split, count, seed)]


def pairs_of(rollouts: Rollouts, seed: int, per_prompt: int = 2) -> Dataset:
    """Right against wrong candidates of one prompt."""
    rng, rows = random.Random(seed), []
    for index, correct in enumerate(rollouts.correct):
        candidates = rollouts.rows[index * len(correct) : (index + 1) * len(correct)]
        right = [row for row, is_right in zip(candidates, correct, strict=True) if is_right]
        wrong = [row for row, is_right in zip(candidates, correct, strict=True) if not is_right]
        for _ in range(min(per_prompt, len(right), len(wrong))):
            chosen, rejected = rng.choice(right), rng.choice(wrong)
            rows.append(
                {
                    "prompt_ids": chosen["prompt_ids"],
                    "chosen_ids": chosen["completion_ids"],
                    "rejected_ids": rejected["completion_ids"],
                }
            )
    return Dataset.from_list(rows)


def train_channel(policy, tokenizer, pairs, output: Path, seed: int, loss_type: str, **channel) -> RewardTransformer:
    args = SLAConfig(
        str(output), loss_type=loss_type, cache_hidden_states=True, learning_rate=3e-3, num_train_epochs=12,
        per_device_train_batch_size=32, report_to="none", disable_tqdm=True, logging_strategy="no", save_strategy="no",
        bf16=False, use_cpu=not torch.cuda.is_available(), seed=seed, **channel,
    )  # fmt: skip
    trainer = SLATrainer(policy, args, train_dataset=pairs, processing_class=tokenizer)
    trainer.train()
    return trainer.model.eval()


def train_dpo(policy, tokenizer, pairs, output: Path, seed: int):
    """DPO on a copy of the policy, with TRL."""
    rows = pairs.map(
        lambda row: {
            "prompt": tokenizer.decode(row["prompt_ids"]),
            "chosen": tokenizer.decode(row["chosen_ids"], skip_special_tokens=True),
            "rejected": tokenizer.decode(row["rejected_ids"], skip_special_tokens=True),
        },
        remove_columns=pairs.column_names,
    )
    args = DPOConfig(
        str(output), beta=0.1, learning_rate=1e-4, num_train_epochs=2, per_device_train_batch_size=32, bf16=False,
        report_to="none", disable_tqdm=True, logging_strategy="no", save_strategy="no", seed=seed,
        gradient_checkpointing=False, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    trainer = DPOTrainer(
        copy.deepcopy(policy).requires_grad_(True), policy, args=args, train_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    tuned = trainer.model.eval()
    tuned.config._name_or_path = ""
    return tuned


@torch.no_grad()
def pair_metrics(rt: RewardTransformer, pairs: Dataset) -> dict[str, float]:
    batch = PairCollator(0)(list(pairs))
    out = rt(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    (chosen, rejected), (chosen_mask, rejected_mask) = out.token_rewards.chunk(2), batch["completion_mask"].chunk(2)
    return preference_metrics(chosen, chosen_mask, rejected, rejected_mask)


@torch.no_grad()
def rewards_of(rt: RewardTransformer, rollouts: Rollouts) -> np.ndarray:
    rewards = []
    for start in range(0, len(rollouts.rows), 256):
        part = rollouts.rows[start : start + 256]
        batch = PairCollator(0)(
            [{"prompt_ids": row["prompt_ids"], **dict.fromkeys(("chosen_ids", "rejected_ids"), row["completion_ids"])}
             for row in part]
        )  # fmt: skip
        batch = {name: values[: len(part)] for name, values in batch.items()}
        out = rt(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        rewards.append(masked_mean(out.token_rewards, batch["completion_mask"]))
    return torch.cat(rewards).numpy().reshape(rollouts.correct.shape)


def best_of(rewards: np.ndarray, correct: np.ndarray, tokens: float) -> np.ndarray:
    """Expected success of best-of-N on each prompt, with N, between whole numbers too, for so many tokens."""
    order = np.argsort(-rewards, axis=1, kind="stable")
    ranked, count = np.take_along_axis(correct.astype(float), order, axis=1), rewards.shape[1]
    ranks = np.arange(count)

    def at(k: int) -> np.ndarray:
        return ranked @ (comb(count - 1 - ranks, k - 1) / comb(count, k))

    k = float(np.clip(tokens, 1, count))
    low = int(k)
    return at(low) if low == k else (1 - k + low) * at(low) + (k - low) * at(low + 1)


def search(rt: RewardTransformer, tokenizer, prompts: list[str], settings: dict) -> tuple[np.ndarray, float]:
    """Which prompts are solved, and leaf-tokens per prompt."""
    right, tokens = [], 0
    for start in range(0, len(prompts), 50):
        part = prompts[start : start + 50]
        inputs = tokenizer(part, return_tensors="pt", padding=True, return_token_type_ids=False)
        out = rt.generate(
            **inputs, custom_generate=sla_generate, max_new_tokens=walk.MAX_NEW_TOKENS, return_dict_in_generate=True,
            **settings,
        )  # fmt: skip
        texts = tokenizer.batch_decode(out.sequences[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += [walk.is_correct(prompt, text) for prompt, text in zip(part, texts, strict=True)]
        tokens += out.num_row_tokens
    return np.array(right, dtype=float), tokens / len(prompts)


def of_seed(folder: Path | None, output: Path, args, seed: int) -> dict[str, dict]:
    """Every way on one policy: `{way: {right, tokens, rewards...}}`."""
    set_seed(seed)
    policy, tokenizer = load_policy(folder)
    prompts = prompts_of(args.split, args.num_test, seed)
    learned = sample(policy, tokenizer, prompts_of("train", args.num_train, seed), walk, num_candidates=8,
                     temperature=TEMPERATURE, show_progress=False)  # fmt: skip
    pairs = pairs_of(learned, seed)
    held_out = sample(policy, tokenizer, prompts, walk, num_candidates=CANDIDATES, temperature=TEMPERATURE,
                      show_progress=False)  # fmt: skip
    greedy = sample(policy, tokenizer, prompts, walk, temperature=0, show_progress=False)
    ways: dict[str, dict] = {
        "greedy": {"right": greedy.correct[:, 0], "tokens": greedy.num_tokens.mean()},
        "one sample": {"right": held_out.correct.mean(1), "tokens": held_out.num_tokens.mean()},
    }
    print(f"seed {seed}: {len(pairs)} pairs, greedy {greedy.correct.mean():.3f}", flush=True)
    test_pairs = pairs_of(held_out, seed)
    channels, scores = {}, {}
    for name, shape in CHANNELS.items():
        for loss_type in args.losses if name == "all layers" else args.losses[:1]:
            rt = train_channel(policy, tokenizer, pairs, output, seed, loss_type, **shape)
            channels[name, loss_type] = rt
            scores[f"{name}, {loss_type}"] = pair_metrics(rt, test_pairs)
            print(f"  {name}, {loss_type}: {scores[f'{name}, {loss_type}']['accuracy']:.3f}", flush=True)
    for loss_type in args.losses:
        rt = channels["all layers", loss_type]
        rewards, length = rewards_of(rt, held_out), held_out.num_tokens.mean()
        for k in (2, 4, 8, 16):
            right = best_of(rewards, held_out.correct, k)
            ways[f"best of {k}, {loss_type}"] = {"right": right, "tokens": k * length}
            print(f"  best of {k}: {right.mean():.3f}", flush=True)
        for name, settings in SEARCHES.items():
            right, tokens = search(rt, tokenizer, prompts, settings)
            gain = right - best_of(rewards, held_out.correct, tokens / length)
            ways[f"search {name}, {loss_type}"] = {"right": right, "tokens": tokens, "gain": gain}
            print(f"  {loss_type} {name}: {right.mean():.3f} at {tokens:.0f} tokens", flush=True)
    if args.dpo:
        tuned = train_dpo(policy, tokenizer, pairs, output, seed)
        by_dpo = sample(tuned, tokenizer, prompts, walk, temperature=0, show_progress=False)
        ways["DPO, greedy"] = {"right": by_dpo.correct[:, 0], "tokens": by_dpo.num_tokens.mean()}
        rt = train_channel(tuned, tokenizer, pairs, output, seed, args.losses[0], **CHANNELS["all layers"])
        for name in (name for name in SEARCHES if "fork" in name):
            right, tokens = search(rt, tokenizer, prompts, SEARCHES[name])
            ways[f"DPO, search {name}"] = {"right": right, "tokens": tokens}
    return {"ways": ways, "scores": scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", type=Path, default=[None], help="default: the shipped one")
    parser.add_argument("--output", type=Path, default=Path("outputs/sla-quality"))
    parser.add_argument("--num-train", type=int, default=1000, help="prompts sampled for pairs")
    parser.add_argument("--num-test", type=int, default=300, help="held-out problems per policy")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--losses", nargs="+", default=["sequence_bt"])
    parser.add_argument("--dpo", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    results = [of_seed(folder, args.output, args, seed) for seed, folder in enumerate(args.policies)]
    print("\n| way | accuracy [95 %] | by seed | tokens | minus best-of-N at these tokens |\n|---|---:|---:|---:|---:|")
    records = {"ways": {}, "scores": {}}
    for name in results[0]["ways"]:
        own = [result["ways"][name] for result in results]
        means = [float(np.mean(one["right"])) for one in own]
        estimate = mean_with_interval(np.concatenate([one["right"] for one in own]))
        gain = mean_with_interval(np.concatenate([one["gain"] for one in own])) if "gain" in own[0] else ""
        tokens = float(np.mean([one["tokens"] for one in own]))
        records["ways"][name] = {"accuracy": estimate, "by_seed": means, "tokens": tokens, "gain": gain}
        print(f"| {name} | {estimate} | {' '.join(f'{mean:.3f}' for mean in means)} | {tokens:.0f} | {gain} |")
    print("\n| channel | pair accuracy | AuTRC | first 25 % | first 50 % |\n|---|---:|---:|---:|---:|")
    for name in results[0]["scores"]:
        own = [result["scores"][name] for result in results]
        records["scores"][name] = own
        cells = [
            " ".join(f"{one[metric]:.3f}" for one in own)
            for metric in ("accuracy", "autrc", "prefix_accuracy_25", "prefix_accuracy_50")
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    (args.output / "sla_quality.json").write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
