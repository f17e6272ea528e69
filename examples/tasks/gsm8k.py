"""GSM8K: word problems whose answer is a number (MIT, openai/grade-school-math)."""

import gzip
import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

MAX_NEW_TOKENS = 256
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_MARKED = re.compile(r"####\s*(.+)")


@dataclass(frozen=True)
class Problem:
    """A word problem as a chat, and its answer."""

    messages: list[dict]
    answer: Decimal


def read_problems(path: str | Path) -> list[Problem]:
    """
    Read problems.

    Args:
        path (`str` or `Path`): JSON lines with `question` and `answer` (rationale, then `#### number`), may be gzipped.

    Raises:
        ValueError: If an answer has no number; the line is named.
    """
    path = Path(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    problems = []
    for number, row in enumerate(rows, 1):
        answer = extract_answer(row["answer"])
        if answer is None:
            raise ValueError(
                f"Line {number} of {str(path)!r} must have an answer with a number, got {row['answer']!r}."
            )
        problems.append(Problem(prompt(row["question"]), answer))
    return problems


def prompt(question: str) -> list[dict]:
    """Return the question as a chat that asks for the form that [`extract_answer`] reads."""
    return [{"role": "user", "content": f'{question}\nThink step by step, and end with "#### " and the number.'}]


def extract_answer(text: str) -> Decimal | None:
    """Return the number after the last `####`, else in the last `\\boxed{}`, else the last number of a text."""
    for pattern in (_MARKED, _BOXED):
        marked = pattern.findall(text)
        if marked:
            return _last_number(marked[-1])
    return _last_number(text)


def _last_number(text: str) -> Decimal | None:
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    try:
        return Decimal(numbers[-1].replace(",", "")).normalize()
    except InvalidOperation:
        return None


def is_right(problem: Problem, text: str) -> bool:
    """Return whether the final number of a response is the answer."""
    return extract_answer(text) == problem.answer
