"""Cards of candidates and completions: rows of `bon` and `generate`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_reward_ext.viz.cards import Answer, Card, Token, as_turns, color


def read_candidates(row: Mapping[str, Any]) -> Card:
    """
    Return the card of a row of `bon`.

    Args:
        row (`dict`): `prompt`, `completions` and `rewards`, best first; `num_tokens`, `labels`, `answers`,
            `probabilities`, `pruned`, `stop_reason` and `traces` are optional.
    """
    rewards: Sequence[float | None] = row["rewards"]
    known = [reward for reward in rewards if reward is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    tokens = color(row.get("traces") or [], around_mean=True)
    answers = [
        Answer(
            as_turns(text),
            tokens.get(index, []),
            reward,
            None if reward is None or high == low else (reward - low) / (high - low),
            _label(row, index),
            _facts(row, index),
        )
        for index, (text, reward) in enumerate(zip(row["completions"], rewards, strict=True))
    ]
    return Card(as_turns(row["prompt"]), answers)


def read_completions(row: Mapping[str, Any]) -> Card:
    """
    Return the card of a row of `generate`.

    Args:
        row (`dict`): `prompt` and `completion` or `completions`; `num_tokens`, `alphas`, `kl`, `rewards`, `traces` and
            `tree` are optional.
    """
    texts = row["completions"] if row.get("completions") is not None else [row["completion"]]
    counts = row.get("num_tokens")
    counts = counts if isinstance(counts, list) else [counts]
    tokens: dict[int, list[Token]] = color(row.get("traces") or [], around_mean=False)
    answers = [
        Answer(as_turns(text), tokens.get(index, []), facts=_decoding_facts(row, index, count))
        for index, (text, count) in enumerate(zip(texts, counts, strict=True))
    ]
    return Card(as_turns(row["prompt"]), answers, row.get("tree") or ())


def _decoding_facts(row: Mapping[str, Any], index: int, count: int | None) -> list[str]:
    facts = [] if count is None else [f"{count} tokens"]
    if row.get("alphas"):
        facts = [f"alpha {row['alphas'][index]:g}", *facts, f"divergence {row['kl'][index]:.2f} nats"]
    if row.get("rewards") and row["rewards"][index] is not None:
        facts.append(f"reward {row['rewards'][index]:.3f}")
    return facts


def _label(row: Mapping[str, Any], index: int) -> bool | None:
    return bool(row["labels"][index]) if row.get("labels") else None


def _facts(row: Mapping[str, Any], index: int) -> list[str]:
    facts = []
    if row.get("probabilities"):
        facts.append(f"probability {row['probabilities'][index]:.2f}")
    if row.get("num_tokens"):
        facts.append(f"{row['num_tokens'][index]} tokens")
    if row.get("answers"):
        facts.append(f"answer {row['answers'][index]}")
    if row.get("pruned") and row["pruned"][index]:
        facts.append("pruned")
    return facts
