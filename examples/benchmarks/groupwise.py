"""
One judgment of a group against a judgment of each answer, at equal tokens: rank correlation with the truth.

    python examples/benchmarks/groupwise.py --results examples/results/groupwise.json

Groups of four different claims about an arithmetic problem of the demo, one to three of them right. Two judges, the
demo policy trained on as many claims each: a pointwise one (`FastSlowRewardModel`) and a groupwise one, which reads the
problem once and writes a ranking, at once or after recomputing every claim. Tokens are those read and written, exact.
Rank correlation: Kendall's tau-b with the truth in each group, 0 for a ranking that is constant or missing. Intervals:
bootstrap over groups. An interrupted run resumes after its last trained judge.
"""

import argparse
import json
import random
import re
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
import transformers
from datasets import Dataset
from interleaved import print_table
from scipy.stats import kendalltau
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.judge import analysis, claim, pairs, train_judge, wrong_claim
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.fast_slow import FastSlowRewardModel
from hf_reward_ext.rewards import GroupwiseReward
from hf_reward_ext.rewards.group_judge import WritingJudge, Written

SIZE = 4
MODES = {"at once": "#", "after recomputing": ":"}  # what the judgment begins with


def groups(split: str, count: int, seed: int = 0) -> list[dict]:
    """Return problems with four claims each, their computations, and whether they are right."""
    rng = random.Random(f"{split} {seed}")
    found = arithmetic.problems(split)
    return [_group(problem, rng) for problem in rng.sample(found, count)]


def _group(problem, rng: random.Random) -> dict:
    right = rng.sample(problem.solutions, rng.randint(1, min(SIZE - 1, len(problem.solutions))))
    claims = {claim(problem.numbers, one, problem.target): (problem.numbers, one, problem.target) for one in right}
    while len(claims) < SIZE:
        error = "steps" if rng.random() >= 0.6 else rng.choice(["result", "result", "number"])
        wrong = wrong_claim(problem, rng.choice(problem.solutions), error, rng)
        claims.setdefault(claim(*wrong), wrong)
    texts = rng.sample(list(claims), SIZE)
    return {
        "prompt": problem.prompt,
        "claims": texts,
        "computed": [analysis(problem, *claims[text]) for text in texts],
        "right": [text in list(claims)[: len(right)] for text in texts],
    }


def question(prompt: str, claims: list[str]) -> str:
    return f"{prompt}{'/'.join(claims)}?"


def training_rows(found: list[dict]) -> Dataset:
    """Return both forms of the judgment of each group."""
    rows = []
    for group in found:
        places = [
            [number for number, own in enumerate(group["right"], start=1) if own == side] for side in (True, False)
        ]
        ranking = "#" + ">".join("=".join(map(str, place)) for place in places)
        asked = question(group["prompt"], group["claims"])
        rows.append({"prompt": asked, "completion": ranking})
        rows.append({"prompt": asked, "completion": f":{'/'.join(group['computed'])}{ranking}"})
    return Dataset.from_list(rows)


def train_groupwise(folder: Path, args):
    policy, tokenizer = load_policy()
    trainer = SFTTrainer(
        policy,
        SFTConfig(
            str(folder), learning_rate=2e-3, adam_beta2=0.98, lr_scheduler_type="cosine", warmup_steps=50,
            per_device_train_batch_size=32, num_train_epochs=1, save_strategy="no", report_to="none", disable_tqdm=True,
            logging_steps=50, bf16=False, gradient_checkpointing=False, use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=training_rows(groups("train", args.num_pairs)),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()


def train_pointwise(folder: Path, args):
    judge = train_judge(*load_policy(), folder, args.num_pairs, rounds=1)
    judge.calibrate(pairs("dev", args.num_dev), budget=0.5, slow=True, show_progress=False)
    judge.save_pretrained(folder)


class GroupJudge:
    """Judge of requests in the template of `GroupwiseReward`, in the words of the demo."""

    def __init__(self, model, tokenizer, mode: str):
        self.start = MODES[mode]
        self.write = WritingJudge(model, tokenizer, max_new_tokens=160, batch_size=64)
        self.tokens: list[int] = []

    def __call__(self, requests: list[str]) -> list[Written]:
        asked = []
        for request in requests:
            claims = re.findall(r"^Answer \d+:\n(.*)$", request, re.MULTILINE)
            asked.append(question(request.split("\n")[0], claims) + self.start)
        written = self.write(asked)
        self.tokens += [one.prompt_tokens + one.new_tokens for one in written]
        return [one._replace(text=f"Ranking: {one.text.rsplit('#', 1)[-1]}") for one in written]


def correlations(rewards: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return tau-b of each group; 0 where it is undefined."""
    found = [kendalltau(own, truth).statistic for own, truth in zip(rewards, right, strict=True)]
    return np.nan_to_num(np.array(found, dtype=float))


def judge_groupwise(folder: Path, test: list[dict]) -> dict:
    """Return rewards and tokens of each group, at once and after recomputing."""
    tokenizer = load_policy()[1]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = {}
    for mode in MODES:
        judge = GroupJudge(model, tokenizer, mode)
        reward = GroupwiseReward(judge, template="{prompt}\n{answers}")
        rewards = reward.score([group["prompt"] for group in test for _ in range(SIZE)], _claims(test))
        found[mode] = {"rewards": [rewards[row : row + SIZE] for row in range(0, len(rewards), SIZE)]}
        found[mode]["tokens"] = judge.tokens
    return found


def _claims(found: list[dict]) -> list[str]:
    return [text for group in found for text in group["claims"]]


def judge_pointwise(folder: Path, test: list[dict]) -> dict:
    """Return scores, tokens and confidences of each claim on both paths."""
    judge = FastSlowRewardModel.from_pretrained(folder)
    judge.batch_size = 128
    prompts = [group["prompt"] for group in test for _ in range(SIZE)]
    claims = _claims(test)
    tokenizer = load_policy()[1]
    read = [len(tokenizer(f"{prompt}{text}?")["input_ids"]) for prompt, text in zip(prompts, claims, strict=True)]
    found = {}
    for mode in ("fast", "slow"):
        judged = judge.judge(prompts, claims, mode=mode, show_progress=False)
        found[mode] = {
            "rewards": _in_groups([one.score for one in judged]),
            "tokens": _in_groups([one.num_tokens + own for one, own in zip(judged, read, strict=True)]),
            "confidence": _in_groups([one.intuition for one in judged]),
        }
    return found


def _in_groups(values: list) -> list[list]:
    return np.array(values).reshape(-1, SIZE).tolist()


def gated(pointwise: dict, budget: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards and tokens if the least confident claims are judged in writing, within a budget of tokens."""
    fast, slow = ({name: np.array(values) for name, values in pointwise[path].items()} for path in ("fast", "slow"))
    order = np.argsort(fast["confidence"], axis=None, kind="stable")
    extra = (slow["tokens"] - fast["tokens"]).ravel()[order].cumsum()
    written = np.zeros(fast["rewards"].size, bool)
    written[order[fast["tokens"].sum() + extra <= budget]] = True
    written = written.reshape(fast["rewards"].shape)
    return tuple(np.where(written, slow[name], fast[name]) for name in ("rewards", "tokens"))


def first_claims(pointwise: dict, budgets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards and tokens of fast verdicts on as many claims as the tokens allow; the others get the mean."""
    rewards, tokens = (np.array(pointwise["fast"][name], dtype=float) for name in ("rewards", "tokens"))
    read = tokens.cumsum(1) <= budgets[:, None]
    mean = np.nanmean(np.where(read, rewards, np.nan), axis=1, keepdims=True)
    return np.where(read, rewards, np.nan_to_num(mean)), np.where(read, tokens, 0)


def compare(judged: dict) -> list[dict]:
    """Return every way with its tokens and rank correlation, and the differences at equal tokens."""
    right = np.array(judged["right"], dtype=float)
    pointwise, grouped = judged["pointwise"], judged["groupwise"]
    costs = {mode: np.array(one["tokens"]) for mode, one in grouped.items()}
    ways = {f"groupwise, {mode}": (_filled(one["rewards"]), costs[mode][:, None]) for mode, one in grouped.items()}
    for name, path in (("pointwise, first token", "fast"), ("pointwise, always written", "slow")):
        ways[name] = tuple(np.array(pointwise[path][key]) for key in ("rewards", "tokens"))
    ways["pointwise, written if unsure"] = gated(pointwise, costs["after recomputing"].sum())
    ways["pointwise, first token of the first claims"] = first_claims(pointwise, costs["at once"])
    found = {name: correlations(rewards, right) for name, (rewards, _) in ways.items()}
    rows = [
        {"way": name, "tokens": round(float(tokens.sum(1).mean()), 1), "tau": _rounded(found[name])}
        for name, (_, tokens) in ways.items()
    ]
    for row in rows:
        mode = row["way"].removeprefix("groupwise, ")
        if mode in grouped:
            row["answered"] = round(float(np.mean([None not in own for own in grouped[mode]["rewards"]])), 3)
            against = {"at once": "first token of the first claims", "after recomputing": "written if unsure"}[mode]
            row["against"] = f"pointwise, {against}"
            row["difference"] = _rounded(found[row["way"]] - found[row["against"]])
    return rows


def _filled(rewards: list) -> np.ndarray:
    return np.array([[0.5 if one is None else one for one in own] for own in rewards])


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in mean_with_interval(values)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-pairs", type=int, default=8000, help="training pairs of each round, and groups")
    parser.add_argument("--num-dev", type=int, default=300, help="pairs for the calibration of the pointwise judge")
    parser.add_argument("--num-test", type=int, default=500, help="number of held-out groups")
    parser.add_argument("--output", type=Path, default=Path("outputs/groupwise"))
    parser.add_argument("--results", type=Path, help="JSON file of all numbers")
    args = parser.parse_args(arguments)
    test = groups("test", args.num_test)
    judged: dict = {"right": [group["right"] for group in test]}
    seconds = {}
    for kind, train, judge in (
        ("pointwise", train_pointwise, judge_pointwise),
        ("groupwise", train_groupwise, judge_groupwise),
    ):
        path = args.output / f"{kind}.json"  # written last
        if not path.exists():
            torch.manual_seed(0)
            started = time.perf_counter()
            train(args.output / kind, args)
            trained = round(time.perf_counter() - started)
            path.write_text(json.dumps({"judged": judge(args.output / kind, test), "seconds": trained}))
        saved = json.loads(path.read_text())
        judged[kind], seconds[kind] = saved["judged"], saved["seconds"]
    rows = compare(judged)
    shown = [
        (row["way"], row["tokens"], _shown(row["tau"]), row.get("answered", ""), _shown(row.get("difference")))
        for row in rows
    ]
    header = ("judge", "tokens per group", "Kendall's tau-b", "answered", "difference at equal tokens")
    print_table(f"{len(test)} groups of {SIZE} claims", shown, header)
    if args.results:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        settings = {key: value for key, value in vars(args).items() if isinstance(value, int)}
        record = {"date": str(date.today()), "versions": versions, "settings": settings, "training_seconds": seconds}
        args.results.write_text(json.dumps({**record, "rows": rows}) + "\n")


def _shown(estimate: list[float] | None) -> str:
    return "" if estimate is None else f"{estimate[0]:.3f} [{estimate[1]:.3f}, {estimate[2]:.3f}]"


if __name__ == "__main__":
    main()
