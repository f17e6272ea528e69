"""Conversion of the pipeline's records of one prompt to distinct completions, best first."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """
    A distinct completion.

    Args:
        completion (`str`): Text without the prompt.
        score (`float`): Raw reward.
        answer (`object`): Answer, if candidates voted.
    """

    completion: str
    score: float
    answer: object = None


def read_candidates(prompt: str | list, records: Sequence[dict]) -> list[Candidate]:
    """
    Return the distinct finished completions of one prompt.

    Pruned candidates, whose texts are unfinished, and candidates without a score are left out. Of equal texts the one
    with the highest score is kept.

    Args:
        prompt (`str` or messages): The prompt of the records.
        records (`list` of `dict`): Records of `pipe(prompt, return_all=True)` with `generated_text` (including the
            prompt, which is optional for a chat), `score`, and `answer` if candidates voted.

    Returns:
        `list` of [`Candidate`], highest score first, or in the given order if candidates voted.

    Raises:
        ValueError: If a text does not begin with its prompt, or a score is NaN.
    """
    counted = [record for record in records if not record.get("pruned") and record["score"] is not None]
    candidates = [_read(prompt, record) for record in counted]
    ranked = sorted(candidates, key=lambda one: -one.score)
    best: dict[str, Candidate] = {}
    for one in ranked:
        best.setdefault(one.completion, one)
    if not any("answer" in record for record in records):
        return list(best.values())
    return [best[text] for text in dict.fromkeys(one.completion for one in candidates)]


def as_turn(prompt: str | list, completion: str) -> str | list[dict[str, str]]:
    """Return a completion in the format of its prompt: text, or the assistant's message."""
    return completion if isinstance(prompt, str) else [{"role": "assistant", "content": completion}]


def _read(prompt: str | list, record: dict) -> Candidate:
    text, score = record["generated_text"], float(record["score"])
    if math.isnan(score):
        raise ValueError(
            f"A candidate of the prompt {str(prompt)[:80]!r} has the score NaN, so it cannot be ranked. Run the reward "
            "in bfloat16 or float32."
        )
    if isinstance(text, list):
        text = text[-1]["content"]
    elif isinstance(prompt, str):
        if not text.startswith(prompt):
            raise ValueError(
                f"`generated_text` begins with {text[:40]!r}, but the completion is what follows the prompt "
                f"{prompt[:40]!r}. Call the pipeline with its default `return_full_text=True`, and keep prompts and "
                "results in one order."
            )
        text = text[len(prompt) :]
    return Candidate(text, score, record.get("answer"))
