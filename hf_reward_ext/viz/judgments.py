"""Cards of judgments: rows of `judge`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hf_reward_ext.viz.cards import Answer, Card, as_turns

_PAIRS = (("chosen", "rejected"), ("response_a", "response_b"))


def read_judgment(row: Mapping[str, Any]) -> Card:
    """
    Return the card of a row of `judge`.

    Args:
        row (`dict`): `prompt`, the two responses (`chosen` and `rejected`, or `response_a` and `response_b`) or one
            `response`, and the fields of [`Judgment`].
    """
    names = next((pair for pair in _PAIRS if row.get(pair[0]) is not None), ("response",))
    shown = row.get("shown_first")
    first = names.index(shown) if shown in names else 0
    probability = row["probability"]
    chances = [probability] if len(names) == 1 else [probability, 1 - probability][:: 1 if first == 0 else -1]
    answers = [
        Answer(as_turns(row[name]), share=chance, facts=[_name(name), f"{chance:.0%}"])
        for name, chance in zip(names, chances, strict=True)
    ]
    texts = [text for of_row in row.get("texts") or [] for text in of_row]
    judgment = {
        "is_slow": row["mode"] == "slow",
        "num_tokens": row["num_tokens"],
        "confidences": [(name, _defined(row.get(name))) for name in ("intuition", "distribution")],
        "fast": row.get("fast_probability"),
        "is_right": row.get("correct"),
        "warnings": _warnings(row),
        "texts": texts if row["mode"] == "slow" else [],
    }
    return Card(as_turns(row["prompt"]), answers, judgment=judgment)


def summarize_judgments(rows: Sequence[Mapping[str, Any]]) -> str:
    """
    Return how many judgments were written, and how many are right where that is known.

    Args:
        rows (`list[dict]`): Rows of `judge`.
    """
    written = sum(row["mode"] == "slow" for row in rows)
    parts = [f"Written judgments: {written} of {len(rows)}."]
    known = [row["correct"] for row in rows if row.get("correct") is not None]
    if known:
        parts.append(f"Right: {sum(known):g} of {len(known)}.")
    return " ".join(parts)


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _name(column: str) -> str:
    return column.replace("_", " ")


def _warnings(row: Mapping[str, Any]) -> list[str]:
    warnings = []
    if row.get("consistent") is False:
        warnings.append("the two orders prefer different responses")
    if row.get("parsed") is False:
        warnings.append("a written judgment has no verdict")
    if row.get("is_cut"):
        warnings.append("a written judgment was cut")
    return warnings
