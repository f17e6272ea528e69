"""Rejection sampling: rows for supervised fine-tuning from the best candidates of a prompt."""

from collections.abc import Callable, Sequence

from hf_reward_ext.base.options import check_callable
from hf_reward_ext.best_of_n.candidates import as_turn, read_candidates


def sft_rows(
    prompt: str | list,
    records: Sequence[dict],
    *,
    keep: int = 1,
    min_score: float | None = None,
    accept: Callable[[str | list, str], bool] | None = None,
) -> list[dict]:
    """
    Return the best candidates of a prompt as rows for `SFTTrainer`.

    Args:
        prompt (`str` or messages): The prompt of the records.
        records (`list` of `dict`): Output of `pipe(prompt, return_all=True)`. Equal texts count once; candidates that
            were pruned or have no score are ignored.
        keep (`int`, *optional*, defaults to 1): Maximum number of rows.
        min_score (`float`, *optional*): Minimum score of a row.
        accept (`callable`, *optional*): Function `(prompt, completion) -> bool` that accepts a text.

    Returns:
        `list` of `dict`: `prompt`, `completion` (text, or messages for a chat) and `score`.

    Raises:
        ValueError: If a text does not begin with its prompt, or a score is NaN.

    Example:
    ```python
    >>> sft_rows("2+2=", [{"generated_text": "2+2=4", "score": 1.5}, {"generated_text": "2+2=5", "score": -0.5}])
    [{'prompt': '2+2=', 'completion': '4', 'score': 1.5}]
    ```
    """
    if accept is not None:
        check_callable("accept", accept, ["prompt", "completion"])
    good = [
        one
        for one in read_candidates(prompt, records)
        if (min_score is None or one.score >= min_score) and (accept is None or accept(prompt, one.completion))
    ]
    return [
        {"prompt": prompt, "completion": as_turn(prompt, one.completion), "score": one.score} for one in good[:keep]
    ]
