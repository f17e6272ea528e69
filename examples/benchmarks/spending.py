"""
Accuracy against tokens: more candidates, adaptive numbers of candidates, pruning, and resampling.

    python examples/benchmarks/spending.py --output outputs/spending.json

The demo's arithmetic policy with a head of `--num_train` labels. One pool of `--num_candidates` samples per problem
gives BoN@k, votes, training-free rewards and, since candidates are independent, every adaptive rule; a rule reads them
in the order of the pool, in waves of 4. Pruned and resampled candidates are sampled separately. Intervals: bootstrap
over problems.
An interrupted run resumes with the missing parts.
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.scoring.votes import majority_vote
from hf_reward_ext.best_of_n import BetaVotes, Drawn, ExpectedImprovement, Pruning, Resampling, allocate_candidates
from hf_reward_ext.confidence import GroupConfidence, LogitsReward
from hf_reward_ext.demo import arithmetic
from hf_reward_ext.demo.elhsr import TEMPERATURE, prompts_of, rollouts_of, sample_pruned, train_head, with_prefixes
from hf_reward_ext.demo.policy import load_policy
from hf_reward_ext.elhsr import ELHSRModel, HiddenStateReward
from hf_reward_ext.evaluation import Estimate, mean_with_interval

STEPS = (6, 12, 18)
MEASURES = {
    "confidence": GroupConfidence(),
    "confidence, groups of 8": GroupConfidence(window=8),
    "mean log-probability": "mean_log_probability",
    "self-certainty": "self_certainty",
    "negative entropy": "negative_entropy",
    "length": "length",
}
STAGED = {
    "pruned 16, keep 0.7": Pruning(STEPS, 0.7),
    "pruned 16, keep 0.5": Pruning(STEPS, 0.5),
    "resampled 16, temperature 4": Resampling(STEPS, 4.0),
    "resampled 16, temperature 1": Resampling(STEPS, 1.0),
}


def draw_pool(policy, tokenizer, head: ELHSRModel, prompts: list[str], count: int, seed: int) -> dict:
    """Sample the pool with every reward read in one call: arrays `(prompts, candidates)` and texts."""
    torch.manual_seed(seed + 1)
    rewards: dict[str, list] = {name: [] for name in ("head", *MEASURES)}
    texts, num_tokens = [], []
    for start in tqdm(range(0, len(prompts), 10), desc="pool"):
        batch = prompts[start : start + 10]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, return_token_type_ids=False)
        readers = {"head": HiddenStateReward(policy, head)}
        readers |= {name: LogitsReward(policy, measure) for name, measure in MEASURES.items()}
        with ExitStack() as stack:
            for reader in readers.values():
                stack.enter_context(reader)
            out = SharedPrefill(policy, inputs["input_ids"], inputs["attention_mask"]).generate(
                count, do_sample=True, temperature=TEMPERATURE, top_k=0, max_new_tokens=arithmetic.MAX_NEW_TOKENS
            )
        for name, reader in readers.items():
            rewards[name] += reader.rewards.view(len(batch), count).tolist()
        written = readers["head"].completion_mask
        num_tokens += written.sum(-1).view(len(batch), count).tolist()
        completions = out[:, inputs["input_ids"].shape[1] :].masked_fill(~written, tokenizer.pad_token_id)
        decoded = tokenizer.batch_decode(completions, skip_special_tokens=True)
        texts += [decoded[index : index + count] for index in range(0, len(decoded), count)]
    return {"rewards": rewards, "num_tokens": num_tokens, "texts": texts}


class Pool:
    """The samples, and what each way makes of them."""

    def __init__(self, prompts: list[str], drawn: dict):
        self.rewards = {name: np.array(values) for name, values in drawn["rewards"].items()}
        self.tokens = np.array(drawn["num_tokens"])
        self.texts = drawn["texts"]
        self.answers = [[arithmetic.extract_answer(text) for text in group] for group in self.texts]
        self.correct = np.array(
            [
                [float(arithmetic.is_correct(prompt, text)) for text in group]
                for prompt, group in zip(prompts, self.texts, strict=True)
            ]
        )

    def best(self, name: str, counts: np.ndarray) -> np.ndarray:
        """Whether the best by a reward of the first `counts` candidates is right."""
        chosen = [int(row[:count].argmax()) for row, count in zip(self.rewards[name], counts, strict=True)]
        return self.correct[np.arange(len(chosen)), chosen]

    def leaders(self, counts: np.ndarray, weighted: bool = False) -> list[int | None]:
        """Candidates with the winning answer of the first `counts`."""
        scores = self.rewards["head"]
        weights = np.exp(scores - scores.max(1, keepdims=True))
        return [
            majority_vote(group[:count], row[:count].tolist() if weighted else None)[0]
            for group, row, count in zip(self.answers, weights, counts, strict=True)
        ]

    def vote(self, counts: np.ndarray, weighted: bool = False) -> np.ndarray:
        """Whether the winning answer of the first `counts` is right."""
        leaders = self.leaders(counts, weighted)
        return np.array([0.0 if one is None else row[one] for one, row in zip(leaders, self.correct, strict=True)])

    def cost(self, counts: np.ndarray) -> np.ndarray:
        """Tokens of the first `counts`."""
        return np.array([row[:count].sum() for row, count in zip(self.tokens, counts, strict=True)])

    def stop(self, rule: Callable, least: int = 4, wave: int = 4) -> np.ndarray:
        """How many candidates a rule draws for each prompt."""
        counts = []
        for index, texts in enumerate(self.texts):
            count = least
            while count < len(texts):
                scores, tokens = self.rewards["head"][index, :count], self.tokens[index, :count]
                drawn = Drawn(scores.tolist(), tokens.tolist(), texts[:count], self.answers[index][:count])
                if rule(drawn):
                    break
                count = min(count + wave, len(texts))
            counts.append(count)
        return np.array(counts)


def ways(pool: Pool, head: ELHSRModel) -> list[dict]:
    """All ways that the pool shows, with accuracy and tokens per problem."""
    total = pool.tokens.shape[1]
    everyone = np.full(len(pool.tokens), total)
    rows = []

    def add(way: str, what: str, right: np.ndarray, counts: np.ndarray, **more) -> None:
        tokens = pool.cost(counts)
        share = float(tokens.sum() / pool.cost(everyone).sum())
        estimate = list(mean_with_interval(right))
        rows.append({"way": way, "what": what, "accuracy": estimate, "tokens": float(tokens.mean()), "share": share,
                     "candidates": float(counts.mean()), **more})  # fmt: skip

    for k in [2**power for power in range(int(np.log2(total)) + 1)]:
        counts = np.full(len(pool.tokens), k)
        add("BoN", f"head@{k}", pool.best("head", counts), counts)
        add("vote", f"majority@{k}", pool.vote(counts), counts)
        add("vote", f"weighted by the head@{k}", pool.vote(counts, weighted=True), counts)
        for name in MEASURES:
            add("training-free", f"{name}@{k}", pool.best(name, counts), counts)
    final = pool.leaders(everyone)
    for probability in (0.8, 0.9, 0.95, 0.99):
        counts = pool.stop(BetaVotes(probability))
        found = [answers[one] if one is not None else None
                 for one, answers in zip(pool.leaders(counts), pool.answers, strict=True)]  # fmt: skip
        last = [answers[one] if one is not None else None for one, answers in zip(final, pool.answers, strict=True)]
        wrong = np.array([a != b for a, b in zip(found, last, strict=True)], dtype=float)[counts < total]
        splits = np.random.default_rng(0).choice(wrong, (200, len(wrong))).mean(-1) if len(wrong) else np.zeros(200)
        add("adaptive, votes", f"beta {probability}", pool.vote(counts), counts,
            leader_changed=float(wrong.mean()) if len(wrong) else 0.0, stopped=len(wrong),
            splits_within_error=float((splits <= 1 - probability).mean()))  # fmt: skip
        add("adaptive, votes", f"beta {probability}, best of the head", pool.best("head", counts), counts)
    calibration = tuple(head.config.calibration or ())
    for price in (1e-5, 1e-4, 3e-4, 1e-3):
        counts = pool.stop(ExpectedImprovement(price, calibration))
        add("adaptive, rewards", f"probability, {price:g} per token", pool.best("head", counts), counts)
        counts = pool.stop(ExpectedImprovement(10 * price))
        add("adaptive, rewards", f"reward, {10 * price:g} per token", pool.best("head", counts), counts)
    for sure in (0.8, 0.9, 0.95):
        limit = (np.log(sure / (1 - sure)) - calibration[1]) / calibration[0]
        counts = pool.stop(lambda drawn, limit=limit: max(drawn.scores) >= limit)
        add("adaptive, callable", f"best is right with {sure}", pool.best("head", counts), counts)
    first = pool.rewards["head"][:, :4].tolist()
    for mean in (8, 16):
        more = np.array(allocate_candidates(first, (mean - 4) * len(first)))
        counts = np.minimum(4 + more, total)
        add("shared budget", f"mean {mean}, 4 first", pool.best("head", counts), counts)
    return rows


def run(output: Path, num_train: int, num_test: int, num_candidates: int, seed: int) -> dict:
    """Measure everything, part by part."""
    settings = dict(num_train=num_train, num_test=num_test, num_candidates=num_candidates, seed=seed)
    parts = output.with_suffix(f".{num_train}-{num_test}-{num_candidates}-{seed}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    policy, tokenizer = load_policy()
    prompts = prompts_of(arithmetic, "test", num_test, seed)
    folder = parts / "head"
    if not (folder / "config.json").exists():
        labeled = rollouts_of(policy, tokenizer, arithmetic, num_train, seed)
        train_head(policy, tokenizer, with_prefixes(labeled.rows, STEPS), folder, seed, num_train_epochs=30)
    head = ELHSRModel.from_pretrained(folder)

    def part(name: str, make: Callable[[], dict]) -> dict:
        path = parts / f"{name}.json"
        if not path.exists():
            started = time.perf_counter()
            made = make()
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps({**made, "seconds": time.perf_counter() - started}))
            draft.rename(path)
        return json.loads(path.read_text())

    drawn = part("pool", lambda: draw_pool(policy, tokenizer, head, prompts, num_candidates, seed))
    pool = Pool(prompts, drawn)
    rows = ways(pool, head)
    whole = float(pool.tokens.sum(1).mean())
    for number, (name, setting) in enumerate(STAGED.items()):

        def sample_staged(setting=setting) -> dict:
            torch.manual_seed(seed + 2)
            right, tokens = sample_pruned(policy, tokenizer, head, prompts, arithmetic, setting)
            return {"right": right.tolist(), "tokens": tokens.tolist()}

        found = part(f"staged{number}", sample_staged)
        rows.append({"way": "staged", "what": name, "accuracy": list(mean_with_interval(np.array(found["right"]))),
                     "tokens": float(np.mean(found["tokens"])), "share": float(np.mean(found["tokens"])) / whole,
                     "candidates": 16.0})  # fmt: skip
    result = {"settings": settings, "any_right": float(pool.correct.max(1).mean()), "rows": _rounded(rows)}
    output.write_text(json.dumps(result, separators=(",", ":")))
    return result


def _rounded(value):
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/spending.json"))
    parser.add_argument("--num_train", type=int, default=1000, help="labels of the head")
    parser.add_argument("--num_test", type=int, default=200, help="problems")
    parser.add_argument("--num_candidates", type=int, default=64, help="samples of a problem")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    result = run(args.output, args.num_train, args.num_test, args.num_candidates, args.seed)
    print("| way | what | candidates | tokens | share | accuracy [95 %] |\n|---|---|---:|---:|---:|---:|")
    for row in result["rows"]:
        cells = f"{row['candidates']:.1f} | {row['tokens']:.0f} | {row['share']:.2f} | {Estimate(*row['accuracy'])}"
        print(f"| {row['way']} | {row['what']} | {cells} |")


if __name__ == "__main__":
    main()
