"""SLA on the constraint task: look-ahead beside greedy decoding and best-of-N with the same number of tokens."""

from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from tqdm.auto import tqdm

from examples.demo_llm.look_ahead import SEARCH, search, train_channel
from examples.demo_llm.model import load_model
from examples.demo_llm.pairs import as_ids
from examples.demo_llm.sampling import Candidate, sample
from examples.demo_llm.settings import keep
from examples.real_tasks.pool import Pool
from examples.real_tasks.sizes import Size, result
from hf_reward_ext import RewardTransformer
from hf_reward_ext.base.scoring.scorer import as_single_scorer

SETTINGS = {
    "width {width}, step {step}, depth {depth}".format(**SEARCH): SEARCH,
    "forks where entropy is above 1.5 nats": {**SEARCH, "depth": 2, "branch_entropy": 1.5},
}


def compare(policy, tokenizer, name: str, dtype: torch.dtype, pool: Pool, folder: Path, size: Size) -> dict:
    """Compare greedy decoding, look-ahead, and best-of-N by the same channel, with and without a policy of DPO."""
    problems = pool.problems["test"][: size.num_searched]
    groups = pool.groups["test"][: size.num_searched]
    channels = [_channel(policy, tokenizer, pool, folder / f"channel-{seed}", size, seed) for seed in size.seeds]
    found: dict[str, list] = {}
    for seed, channel in zip(size.seeds, channels, strict=True):
        for what, settings in SETTINGS.items():
            if seed and settings is not SEARCH:
                continue  # one seed of the second setting
            found.setdefault(what, []).append(
                _search_all(channel, tokenizer, problems, folder / f"search-{seed}" / what, settings)
            )
    rows = [_greedy_row(policy, tokenizer, problems, folder / "greedy", "greedy", "most probable token")]
    for what, seeds in found.items():
        budget = np.mean([[one["num_row_tokens"] for one in searched] for searched in seeds])
        rows.append(result("look-ahead", what, [[one["is_right"] for one in searched] for searched in seeds], budget))
        rows.append(_best_of(channels[: len(seeds)], tokenizer, problems, groups, float(budget), what))
    rows += _with_dpo(tokenizer, name, dtype, pool, folder, size)
    return {"rows": rows}


def _channel(policy, tokenizer, pool: Pool, folder: Path, size: Size, seed: int) -> RewardTransformer:
    return train_channel(policy, tokenizer, as_ids(pool.pairs("train", size.num_pairs, seed)), folder, seed)


def _search_all(channel, tokenizer, problems, folder: Path, settings: dict) -> list[dict]:
    return [
        keep(folder / f"{index:05}.json", lambda problem=problem: search(channel, tokenizer, problem, **settings))
        for index, problem in enumerate(tqdm(problems, desc=folder.name, unit="problem"))
    ]


def _greedy_row(policy, tokenizer, problems, folder: Path, method: str, what: str) -> dict:
    groups = sample(policy, tokenizer, problems, folder, num_candidates=1, temperature=0, name=method)
    lengths = np.mean([len(group[0].completion_ids) for group in groups])
    return result(method, what, [group[0].is_right for group in groups], float(lengths))


def _best_of(channels, tokenizer, problems, groups: list[list[Candidate]], budget: float, what: str) -> dict:
    """Return best-of-N by the channels, with the N whose tokens are closest to those of the look-ahead."""
    lengths = np.array([[len(one.completion_ids) for one in group] for group in groups])
    count = int(np.clip(round(budget / lengths.mean()), 1, lengths.shape[1]))
    right = []
    for channel in channels:
        scorer = as_single_scorer(channel, tokenizer)
        right.append([])
        for problem, group in zip(problems, groups, strict=True):
            completions = [[{"role": "assistant", "content": one.text}] for one in group[:count]]
            scores = np.asarray(scorer([problem.messages] * count, completions), dtype=float)
            right[-1].append(float(group[int(scores.argmax())].is_right))
    return result(f"best of {count}", f"by the channel, tokens of: {what}", right, lengths[:, :count].sum(1).mean())


def _with_dpo(tokenizer, name: str, dtype: torch.dtype, pool: Pool, folder: Path, size: Size) -> list[dict]:
    """Return greedy decoding and look-ahead of the policy of the first seed's DPO, with a channel of its own."""
    seed = size.seeds[0]
    adapter = folder.parent / "genarm" / f"dpo-{seed}"
    policy, _ = load_model(name, dtype)
    policy = PeftModel.from_pretrained(policy, str(adapter)).merge_and_unload().eval()
    channel = _channel(policy, tokenizer, pool, folder / f"dpo-channel-{seed}", size, seed)
    problems = pool.problems["test"][: size.num_searched]
    searched = _search_all(channel, tokenizer, problems, folder / f"dpo-search-{seed}", SEARCH)
    tokens = np.mean([one["num_row_tokens"] for one in searched])
    return [
        _greedy_row(policy, tokenizer, problems, folder / "dpo-greedy", "greedy, DPO", "policy trained by DPO"),
        result("look-ahead, DPO", next(iter(SETTINGS)), [one["is_right"] for one in searched], float(tokens)),
    ]
