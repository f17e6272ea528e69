"""Accuracy against tokens on the constraint task: how many candidates each rule draws, on the pool of best-of-N."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.real_tasks.best_of_n import prune
from examples.real_tasks.pool import Pool
from examples.real_tasks.sizes import Size, result
from examples.tasks import constraints
from hf_reward_ext.best_of_n import Drawn, ExpectedImprovement, allocate_candidates
from hf_reward_ext.elhsr import ELHSRModel

LEAST = 4
WAVE = 4


def compare(tokenizer, pool: Pool, folder: Path, size: Size) -> dict:
    """
    Return accuracy and tokens of best-of-N, of adaptive numbers of candidates, and of both with pruning.

    Candidates are independent and read in the order of the pool, so the pool shows what each rule would have drawn.
    """
    groups = pool.groups["test"]
    right = np.array([[float(one.is_right) for one in group] for group in groups])
    lengths = np.array([[len(one.completion_ids) for one in group] for group in groups])
    if not (folder / "prefixes.npz").exists():
        raise FileNotFoundError(f"`spending` must find the rewards in {folder / 'prefixes.npz'}. Run `elhsr` first.")
    prefixes = np.load(folder / "prefixes.npz")["rewards"]
    total = right.shape[1]
    ways: dict[tuple[str, str], list] = {}
    exits: dict[tuple[str, str], list] = {}
    for number, seed in enumerate(size.seeds):
        head = ELHSRModel.from_pretrained(folder / f"head-hidden_states-{size.num_labels[-1]}-{seed}")
        scores = np.take_along_axis(prefixes[number], (lengths - 1)[..., None], 2)[..., 0]
        for way, counts in _counts(head, scores, lengths, total).items():  # pyright: ignore[reportArgumentType]
            ways.setdefault(way, []).append(_choose(scores, right, lengths, counts))
            if way[0] != "best of N":
                pruned = ("pruned, " + way[0], way[1])
                ways.setdefault(pruned, []).append(_prune_all(prefixes[number], right, lengths, counts))
        for sure in (0.3, 0.5, 0.7):
            stopped = _early_exit(tokenizer, pool, head, prefixes[number], lengths, sure)  # pyright: ignore[reportArgumentType]
            for count in (1, 16):
                what = f"at the end of a sentence that is right with {sure:g}, best of {count}"
                exits.setdefault(("early exit", what), []).append(_best(*stopped, min(count, total)))
    ways |= exits
    whole = lengths.sum(1).mean()
    rows = []
    for (method, what), seeds in ways.items():
        more = _held(float(what.split()[-1]), seeds, total) if method == "probability" else {}
        if len(seeds) < len(size.seeds):
            continue
        tokens = float(np.mean([cost for _, cost, _ in seeds]))
        candidates = float(np.mean([counts.mean() for _, _, counts in seeds]))
        rows.append(
            result(
                method, what, [correct for correct, _, _ in seeds], tokens,
                share=round(tokens / whole, 4), candidates=round(candidates, 2), **more,
            )
        )  # fmt: skip
    return {"rows": rows}


def _counts(head: ELHSRModel, scores: np.ndarray, lengths: np.ndarray, total: int) -> dict[tuple[str, str], np.ndarray]:
    """Return the number of candidates that each rule draws for each prompt."""
    everyone = np.ones(len(scores), dtype=int)
    found = {("best of N", f"N = {count}"): everyone * count for count in (4, 8, 16, 32, 64) if count <= total}
    slope, intercept = head.config.calibration or (1.0, 0.0)
    if slope <= 0:  # a head without skill has no probability to stop by
        return found
    for price in (3e-5, 1e-4, 3e-4, 1e-3):
        rule = ExpectedImprovement(price, (slope, intercept))
        found["expected improvement", f"probability, price {price:g} per token"] = _stop(rule, scores, lengths)
    for sure in (0.5, 0.6, 0.7, 0.8, 0.9):
        limit = (np.log(sure / (1 - sure)) - intercept) / slope
        found["probability", f"stops when the best is right with {sure:g}"] = _stop(
            lambda drawn, limit=limit: max(drawn.scores) >= limit, scores, lengths
        )
    for mean in (8, 16):
        if LEAST < mean < total:
            more = allocate_candidates(scores[:, :LEAST].tolist(), (mean - LEAST) * len(scores))
            found["shared budget", f"mean of {mean}"] = np.minimum(LEAST + np.array(more), total)
    return found


def _held(promise: float, seeds: list, total: int) -> dict:
    """Return the accuracy of prompts that stopped early, and the share of 200 bootstraps that keep the promise."""
    right = np.concatenate([correct[counts < total] for correct, _, counts in seeds])
    if not len(right):
        return {}
    draws = np.random.default_rng(0).choice(right, (200, len(right))).mean(-1)
    return {
        "stopped": len(right),
        "right_where_stopped": round(float(right.mean()), 4),
        "kept": round(float((draws >= promise).mean()), 4),
    }


def _stop(rule: Callable, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    counts = []
    for own, tokens in zip(scores.astype(float), lengths, strict=True):
        count = min(LEAST, len(own))
        while count < len(own) and not rule(Drawn(own[:count].tolist(), tokens[:count].tolist(), [""] * count)):
            count = min(count + WAVE, len(own))
        counts.append(count)
    return np.array(counts)


def _early_exit(tokenizer, pool: Pool, head: ELHSRModel, prefixes: np.ndarray, lengths: np.ndarray, sure: float):
    """
    Return correctness, length and final reward of every candidate, ended at the first sentence that is right.

    The rule of [`HiddenStateStoppingCriteria`] on the pool: the text up to a token does not depend on what follows.
    """
    slope, intercept = head.config.calibration or (1.0, 0.0)
    limit = (np.log(sure / (1 - sure)) - intercept) / slope
    right, ends = np.zeros(lengths.shape), lengths.copy()
    for row, (problem, group) in enumerate(zip(pool.problems["test"], pool.groups["test"], strict=True)):
        for index, one in enumerate(group):
            pieces = tokenizer.batch_decode([[token] for token in one.completion_ids])
            marks = [place for place, piece in enumerate(pieces) if any(mark in piece for mark in ".!?")]
            exit_at = next((place + 1 for place in marks if prefixes[row, index, place] >= limit), None)
            ends[row, index] = exit_at or lengths[row, index]
            text = one.text if exit_at is None else tokenizer.decode(one.completion_ids[:exit_at]).strip()
            right[row, index] = constraints.is_right(problem, text)
    return right, ends, np.take_along_axis(prefixes, (ends - 1)[..., None], 2)[..., 0]


def _best(right: np.ndarray, lengths: np.ndarray, scores: np.ndarray, count: int):
    """Return the result of the best of `count`: for one candidate the mean over all."""
    counts = np.full(len(right), count)
    if count == 1:
        return right.mean(1), float(lengths.mean()), counts
    return _choose(scores, right, lengths, counts)


def _choose(scores, right, lengths, counts) -> tuple[np.ndarray, float, np.ndarray]:
    picks = [int(own[:count].argmax()) for own, count in zip(scores, counts, strict=True)]
    cost = np.mean([own[:count].sum() for own, count in zip(lengths, counts, strict=True)])
    return right[np.arange(len(right)), picks], float(cost), counts


def _prune_all(prefixes, right, lengths, counts) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the same with half of the drawn candidates of every wave dropped at each of the pruning steps."""
    picks, costs = [], []
    for own, tokens, count in zip(prefixes, lengths, counts, strict=True):
        chosen = []
        cost = 0
        for start in range(0, count, LEAST):
            pick, used = prune(own[start : min(start + LEAST, count)], tokens[start : min(start + LEAST, count)], 0.5)
            chosen.append(start + pick)
            cost += used
        finals = own[chosen, tokens[chosen] - 1]
        picks.append(chosen[int(finals.argmax())])
        costs.append(cost)
    return right[np.arange(len(right)), picks], float(np.mean(costs)), counts
