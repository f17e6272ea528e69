"""Preference pairs for DPO and reward models from the candidates of a prompt."""

import random
from collections.abc import Sequence
from typing import Literal

from hf_reward_ext.best_of_n.candidates import as_turn, read_candidates


def preference_rows(
    prompt: str | list,
    records: Sequence[dict],
    *,
    rejected: Literal["worst", "random"] = "worst",
    min_margin: float = 0.0,
    seed: int = 0,
) -> list[dict]:
    """
    Return a preference pair of the best and a worse candidate, in TRL's format.

    Args:
        prompt (`str` or messages): The prompt of the records.
        records (`list` of `dict`): Output of `pipe(prompt, return_all=True)`. Equal texts count once; candidates that
            were pruned or have no score are ignored.
        rejected (`str`, *optional*, defaults to `"worst"`): Rejected candidate, `"worst"` or `"random"` among the
            worse ones; if candidates voted, one with another answer.
        min_margin (`float`, *optional*, defaults to 0): Difference of scores that a pair must exceed; ties give no row.
        seed (`int`, *optional*): Random seed for `"random"`, combined with the prompt.

    Returns:
        `list` of `dict` with at most one row: `prompt`, `chosen`, `rejected` (text, or messages for a chat) and
        `margin`, the difference of the scores.

    Raises:
        ValueError: If a text does not begin with its prompt, a score is NaN, or `rejected` is unknown.

    Example:
    ```python
    >>> records = [{"generated_text": "2+2=4", "score": 1.5}, {"generated_text": "2+2=5", "score": -0.5}]
    >>> preference_rows("2+2=", records)
    [{'prompt': '2+2=', 'chosen': '4', 'rejected': '5', 'margin': 2.0}]
    ```
    """
    if rejected not in ("worst", "random"):
        raise ValueError(f"`rejected` must be 'worst' or 'random', got {rejected!r}. Choose one.")
    candidates = read_candidates(prompt, records)
    if not candidates:
        return []
    best, *others = candidates
    voted = any("answer" in record for record in records)
    worse = [one for one in others if best.score - one.score > min_margin and not (voted and one.answer == best.answer)]
    if not worse:
        return []
    if rejected == "random":
        loser = random.Random(f"{seed}:{prompt}").choice(worse)
    else:
        loser = min(worse, key=lambda one: one.score)
    return [
        {
            "prompt": prompt,
            "chosen": as_turn(prompt, best.completion),
            "rejected": as_turn(prompt, loser.completion),
            "margin": best.score - loser.score,
        }
    ]
