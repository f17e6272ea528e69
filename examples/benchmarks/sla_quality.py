"""
Gain of look-ahead search on the walk task, against greedy, sampling and best-of-N at the same number of tokens.

    python -m hf_reward_ext.demo.train --seed 1 --output seed1   # and so on
    python examples/benchmarks/sla_quality.py --policies seed0 seed1 seed2 --output quality

Pairs are correct and wrong walks of the policy. Prints Markdown tables and writes `sla_quality.json`. Intervals:
bootstrap over the problems, or pairs, of all policies; differences are paired. Tokens are those read after the
prompt, summed over all rows. Best-of-N uses the best of several temperatures at every N.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sla_rewards as train
import torch
from scipy.special import comb
from transformers import set_seed

from hf_reward_ext.demo import walk
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.demo.sampling import sample
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.sla import sla_generate
from hf_reward_ext.sla.token_losses import LOSSES

CANDIDATES = 16
# A walk consists of moves of four tokens, of which only the sign is uncertain.
FORKS = dict(width=2, step=1, branch_entropy=0.5)
USUAL = dict(**FORKS, depth=7)
FIXED = {
    f"({width}, {step}, {depth})": dict(width=width, step=step, depth=depth)
    for width, step, depth in ((2, 4, 0), (2, 4, 2), (2, 10, 2), (2, 1, 3))
}
# The prompt includes the size of the first step, so that chunks of four begin with a sign. The sign of the first move
# is then chosen by the policy.
ALIGNED = {
    f"({width}, 4, {depth}), chunks begin with a sign": dict(width=width, step=4, depth=depth)
    for width, depth in ((2, 0), (2, 1), (2, 2), (3, 1))
}
FORKING = {
    f"({width}, 1, {depth}), fork above {nats} nats": dict(width=width, step=1, depth=depth, branch_entropy=nats)
    for width, depth, nats in (
        (2, 3, 0.5), (2, 7, 0.5), (2, 11, 0.5), (2, 15, 0.5), (2, 7, 0.1), (2, 7, 0.3), (2, 7, 0.6), (3, 7, 0.5)
    )
}  # fmt: skip
OPTIONS = {
    "mean of leaves": dict(aggregate="mean"),
    "without the prompt's reward": dict(score_prompt=False),
    "ends when a finished leaf leads": dict(stop_when_finished_leads=True),
    "branch tokens drawn at temperature 1": dict(branch_temperature=1.0),
    "budget of 65 tokens": dict(token_budget=65),
}


class Way(NamedTuple):
    """Results of a method: solved problems, tokens per problem, and best-of-N with the same number of tokens."""

    right: np.ndarray
    tokens: float
    best_of_n: np.ndarray | None = None


def prompts_of(split: str, count: int, seed: int) -> list[str]:
    return [one.prompt for one in walk.random_walks(split, count, seed)]


def best_of(rewards: np.ndarray, correct: np.ndarray, number: float) -> np.ndarray:
    """Return the expected success of best-of-N on each prompt, interpolated linearly between integers N."""
    order = np.argsort(-rewards, axis=1, kind="stable")
    ranked, count = np.take_along_axis(correct.astype(float), order, axis=1), rewards.shape[1]
    ranks = np.arange(count)

    def at(k: int) -> np.ndarray:
        return ranked @ (comb(count - 1 - ranks, k - 1) / comb(count, k))

    number = float(np.clip(number, 1, count))
    low = int(number)
    return at(low) if low == number else (1 - number + low) * at(low) + (number - low) * at(low + 1)


def search(policy, tokenizer, prompts: list[str], reward, settings: dict, is_aligned: bool = False) -> Way:
    """Return the problems that a search solves."""
    starts = [re.findall(r"\d+", prompt)[1] if is_aligned else "" for prompt in prompts]
    right, tokens = [], 0
    for first in range(0, len(prompts), 50):
        part, lead = prompts[first : first + 50], starts[first : first + 50]
        texts = [prompt + start for prompt, start in zip(part, lead, strict=True)]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        out = policy.generate(
            **inputs, custom_generate=sla_generate, reward=reward, max_new_tokens=walk.MAX_NEW_TOKENS - is_aligned,
            return_dict_in_generate=True, **settings,
        )  # fmt: skip
        found = tokenizer.batch_decode(out.sequences[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += [
            walk.is_correct(*both) for both in zip(part, map("".join, zip(lead, found, strict=True)), strict=True)
        ]
        tokens += out.num_row_tokens
    return Way(np.array(right, dtype=float), tokens / len(prompts))


def decode(policy, tokenizer, prompts: list[str], temperature: float = 0.0, candidates: int = 1):
    return sample(
        policy, tokenizer, prompts, walk, num_candidates=candidates, temperature=temperature, show_progress=False
    )


class Policy:
    """A policy with its training data and measurements."""

    def __init__(self, folder: Path | None, args, seed: int):
        set_seed(seed)
        self.args, self.seed, self.started = args, seed, time.process_time()
        self.policy, self.tokenizer = load_policy(folder)
        self.prompts = prompts_of(args.split, args.num_test, seed)
        self.learned = decode(self.policy, self.tokenizer, prompts_of("train", args.num_train, seed), 0.8, 8)
        self.pairs = train.pairs_of(self.learned, seed)
        self.ways: dict[str, Way] = {}
        self.scores: dict[str, dict[str, list[float]]] = {}
        self.candidates = {
            temperature: decode(self.policy, self.tokenizer, self.prompts, temperature, CANDIDATES)
            for temperature in args.temperatures
        }
        self.test_batch = train.batch_of(train.pairs_of(self.candidates[args.temperatures[-1]], seed))

    def fit(self, how, *data, **settings):
        """Return a model trained on the pairs, or on other data."""
        return how(self.policy, self.tokenizer, *(data or [self.pairs]), self.args.output, self.seed, **settings)

    def train_channel(self, **settings):
        return self.fit(train.train_channel, num_train_epochs=self.args.epochs, **settings)

    def record(self, name: str, way: Way) -> None:
        self.ways[name] = way
        seconds = time.process_time() - self.started
        print(f"{seconds:6.0f} s  {self.seed} {name}: {way.right.mean():.3f}, {way.tokens:.0f} tokens", flush=True)

    def search(self, name: str, reward, settings: dict, policy=None, **kwargs) -> None:
        way = search(policy or self.policy, self.tokenizer, self.prompts, reward, settings, **kwargs)
        others = [
            best_of(self.rewards[temperature], own.correct, way.tokens / (own.num_tokens.mean() - 1))
            for temperature, own in self.candidates.items()
        ]
        self.record(name, way._replace(best_of_n=None if policy else max(others, key=np.mean)))

    def score(self, name: str, rewards: torch.Tensor) -> None:
        self.scores[name] = train.pair_metrics(rewards, self.test_batch)
        print(f"  {name}: {np.mean(self.scores[name]['accuracy']):.3f}", flush=True)

    def measure(self) -> None:
        self.channel = self.train_channel()
        self.rewards = {each: train.mean_rewards(self.channel, own) for each, own in self.candidates.items()}
        self.plain()
        for name, settings in {**FIXED, **FORKING}.items():
            self.search(f"search {name}", self.channel, settings)
        for name, settings in ALIGNED.items():
            self.search(f"search {name}", self.channel, settings, is_aligned=True)
        for name, settings in OPTIONS.items():
            self.search(f"option: {name}", self.channel, {**USUAL, **settings})
        self.other_rewards()
        self.with_dpo()

    def plain(self) -> None:
        greedy = decode(self.policy, self.tokenizer, self.prompts)
        self.record("greedy", Way(greedy.correct[:, 0].astype(float), greedy.num_tokens.mean() - 1))
        for temperature, own in self.candidates.items():
            for number in (1, 2, 3, 4, 6, 8, 16):
                right = best_of(self.rewards[temperature], own.correct, number)
                self.record(f"best of {number}, T = {temperature}", Way(right, number * (own.num_tokens.mean() - 1)))

    def other_rewards(self) -> None:
        channels: dict[str, dict] = {f"channel, {loss}": dict(loss_type=loss) for loss in LOSSES}
        channels.update({name: dict(layers=[-1], **own) for name, own in train.ON_THE_LAST_STATE.items()})
        for name, settings in channels.items():
            rt = self.train_channel(**settings)
            self.score(name, train.token_rewards(rt, self.test_batch))
            self.search(f"reward: {name}", rt, USUAL)
        forbidden = self.tokenizer.convert_tokens_to_ids("x")
        self.score("rule: minus one for each x", -(self.test_batch["input_ids"] == forbidden).double())
        noise = torch.Generator().manual_seed(self.seed)
        others = {
            "ELHSR head": self.fit(train.train_elhsr, self.learned),
            "autoregressive reward model": self.fit(train.train_guide),
            "log-probability of the policy itself": self.policy,
            "rule: minus one for each x": lambda step: -(step.input_ids[:, -1] == forbidden).double(),
            "noise": lambda step: torch.rand(len(step.input_ids), generator=noise),
        }
        for name, reward in others.items():
            self.search(f"reward: {name}", reward, USUAL)

    def with_dpo(self) -> None:
        tuned = self.fit(train.train_dpo)
        implicit = train.token_logps(tuned, self.test_batch) - train.token_logps(self.policy, self.test_batch)
        self.score("implicit reward of DPO", implicit)
        channel = train.train_channel(
            tuned, self.tokenizer, self.pairs, self.args.output, self.seed, num_train_epochs=self.args.epochs
        )
        for name, temperature in (("greedy", 0.0), ("one sample, T = 0.8", 0.8)):
            own = decode(tuned, self.tokenizer, self.prompts, temperature, 8 if temperature else 1)
            self.record(f"DPO, {name}", Way(own.correct.mean(1), own.num_tokens.mean() - 1))
        for depth in (3, 7, 11, 15):
            self.search(f"DPO, search depth {depth}", channel, {**FORKS, "depth": depth}, policy=tuned)


def interval(arrays: list[np.ndarray]) -> str:
    return str(mean_with_interval(np.concatenate(arrays)))


def summary(policies: list[Policy]) -> dict:
    records: dict = {"ways": {}, "scores": {}}
    print("\n| way | solved [95 %] | by policy | tokens | minus greedy | minus best-of-N at these tokens |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in policies[0].ways:
        own = [one.ways[name] for one in policies]
        minus = [way.right - one.ways["greedy"].right for way, one in zip(own, policies, strict=True)]
        gain = "" if own[0].best_of_n is None else interval([way.right - way.best_of_n for way in own])
        row = {
            "solved": interval([way.right for way in own]),
            "by_policy": " ".join(f"{way.right.mean():.3f}" for way in own),
            "tokens": f"{np.mean([way.tokens for way in own]):.0f}",
            "minus_greedy": interval(minus),
            "minus_best_of_n": gain,
        }
        records["ways"][name] = row
        print(f"| {name} | {' | '.join(row.values())} |")
    metrics = list(next(iter(policies[0].scores.values())))
    print(f"\n| reward | {' | '.join(metrics)} |\n|---|{'---:|' * len(metrics)}")
    for name in policies[0].scores:
        row = {metric: interval([np.array(one.scores[name][metric]) for one in policies]) for metric in metrics}
        records["scores"][name] = row
        print(f"| {name} | {' | '.join(row.values())} |")
    base = policies[0].scores["channel, sequence_bt"]
    for name in policies[0].scores:
        minus = [np.array(one.scores["channel, sequence_bt"]["autrc"]) - one.scores[name]["autrc"] for one in policies]
        if policies[0].scores[name] is not base:
            print(f"AuTRC of the channel (sequence_bt) minus {name}: {interval(minus)}")
    return records


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policies", nargs="+", type=Path, default=[None], help="folders of policies; default: the demo policy"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/sla-quality"))
    parser.add_argument("--num-train", type=int, default=1000, help="number of prompts sampled for pairs")
    parser.add_argument("--num-test", type=int, default=400, help="number of held-out problems per policy")
    parser.add_argument("--epochs", type=float, default=12, help="number of epochs of the channels")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.3, 0.5, 0.8], help="of best-of-N")
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    policies = []
    for seed, folder in enumerate(args.policies):
        policies.append(Policy(folder, args, seed))
        policies[-1].measure()
        (args.output / "sla_quality.json").write_text(json.dumps(summary(policies), indent=1) + "\n")


if __name__ == "__main__":
    main()
