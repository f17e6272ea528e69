"""Rewards by regular expressions: the format of a completion, and its answer."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from hf_reward_ext.base.options import check_number
from hf_reward_ext.rewards.reward import Scored, SyncReward
from hf_reward_ext.rewards.texts import final_text

# Without exponents: a policy may write `1e999999999`, which would fill the memory.
_NUMBER = re.compile(r"[+-]?(?:\d[\d,]*(?:\.\d*)?|\.\d+|\d+/\d+)")


class FormatReward(SyncReward):
    """
    Reward 1 for completions of a format, else 0.

    The whole completion must match; a dot matches line breaks too. Of messages, the last one of the assistant counts.

    Args:
        pattern (`str`): Regular expression.
        name (`str`, *optional*, defaults to `"format"`): Name in logs.

    Raises:
        ValueError: If the pattern is no regular expression.

    Example:
    ```python
    >>> FormatReward(r"<think>.*</think>.*").score(["2+2?"] * 2, ["<think>2 more</think>4", "4"])
    [1.0, 0.0]
    ```
    """

    def __init__(self, pattern: str, *, name: str = "format"):
        super().__init__(name)
        self.pattern = _compiled(pattern)

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        texts = [final_text(completion) for completion in completions]
        return Scored([float(self.pattern.fullmatch(text) is not None) for text in texts])


class AnswerReward(SyncReward):
    r"""
    Reward for completions whose answer is that of a column of the data.

    The answer is the last match of a regular expression: its first group, or all of it without groups. Answers are
    equal if their texts are, or their numbers (`0.5`, `1/2`). A completion without an answer is wrong. Rows whose
    column is `None` have no reward, so that several tasks can share a data set. The answers that were read are logged
    as the column `<name>/answer` of the table of completions.

    Args:
        pattern (`str`): Regular expression of the answer.
        column (`str`, *optional*, defaults to `"answer"`): Column of the right answers.
        correct, wrong (`float`, *optional*, defaults to 1.0 and 0.0): Rewards of right and of other completions.
        name (`str`, *optional*, defaults to `"answer"`): Name in logs.

    Raises:
        ValueError: If the pattern is no regular expression with at most one group, or a number is not finite.

    Example:
    ```python
    >>> AnswerReward(r"=(\d+)").score(["2+2?"] * 3, ["2+2=4", "2+2=5", "?"], answer=["4", "4", None])
    [1.0, 0.0, None]
    ```
    """

    def __init__(
        self,
        pattern: str,
        *,
        column: str = "answer",
        correct: float = 1.0,
        wrong: float = 0.0,
        name: str = "answer",
    ):
        super().__init__(name)
        check_number("correct", correct)
        check_number("wrong", wrong)
        self.pattern = _compiled(pattern)
        if self.pattern.groups > 1:
            raise ValueError(
                f"`pattern` must have at most one group, the answer, got {self.pattern.groups} in {pattern!r}. Write "
                "the others as `(?:...)`."
            )
        self.column = column
        self.correct = correct
        self.wrong = wrong

    def compute(self, prompts: Sequence, completions: Sequence, columns: Mapping[str, Any]) -> Scored:
        if self.column not in columns:
            raise ValueError(
                f"`{self.__name__}` must get the column {self.column!r} of the right answers, got the columns "
                f"{sorted(columns)}. Add it to the data, or pass `column=`."
            )
        found = [self._answer(final_text(completion)) for completion in completions]
        rewards = [
            None if right is None else self.correct if _is_equal(answer, str(right)) else self.wrong
            for answer, right in zip(found, columns[self.column], strict=True)
        ]
        return Scored(rewards, extra={"answer": found})

    def _answer(self, text: str) -> str | None:
        matches = self.pattern.findall(text)
        return matches[-1].strip() if matches else None


def _compiled(pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern, re.DOTALL)
    except (re.error, TypeError) as error:
        raise ValueError(f"`pattern` must be a regular expression, got {pattern!r} ({error}). Correct it.") from error


def _is_equal(answer: str | None, right: str) -> bool:
    if answer is None:
        return False
    number = _number(answer)
    return answer == right.strip() or (number is not None and number == _number(right))


def _number(text: str) -> Fraction | None:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Fraction(text.replace(",", ""))
    except (ValueError, ZeroDivisionError):  # more digits than Python reads, or a denominator of 0
        return None
