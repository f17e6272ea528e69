"""
Arithmetic task: put `+`, `-` or `*` between four numbers so that, from left to right, they reach the target.

Prompt `6 1 3 3=12|`, completion `6-1=5;5*3=15;15-3=12`. Numbers are 1..9, values stay in 0..99. A completion may try
again after `/`; its last attempt counts.
"""

import itertools
import operator
import random
import re
import zlib
from functools import cache
from typing import NamedTuple

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
MAX_NEW_TOKENS = 40
_STEP = re.compile(r"(\d+)([+*-])(\d+)=(\d+)")


class Problem(NamedTuple):
    """Four numbers, the target, and every triple of operators that reaches it."""

    numbers: tuple[int, ...]
    target: int
    solutions: tuple[str, ...]

    @property
    def prompt(self) -> str:
        return f"{' '.join(map(str, self.numbers))}={self.target}|"


def evaluate(numbers: tuple[int, ...], operators: str) -> list[int] | None:
    """Return the results of the steps from left to right, or `None` if a value leaves 0..99."""
    results, value = [], numbers[0]
    for symbol, number in zip(operators, numbers[1:], strict=True):
        value = OPERATORS[symbol](value, number)
        if not 0 <= value <= 99:
            return None
        results.append(value)
    return results


def write(numbers: tuple[int, ...], operators: str) -> str:
    """Return the correct computation with these operators as a completion: `6-1=5;5*3=15;15-3=12`."""
    results = evaluate(numbers, operators) or []
    steps, value = [], numbers[0]
    for symbol, number, result in zip(operators, numbers[1:], results, strict=True):
        steps.append(f"{value}{symbol}{number}={result}")
        value = result
    return ";".join(steps)


@cache
def problems(split: str) -> tuple[Problem, ...]:
    """
    Return all problems of a split, in a fixed random order.

    Args:
        split (`str`): `"train"` (90 %), `"dev"` or `"test"` (5 % each), by a hash of the problem.
    """
    found = []
    triples = ["".join(triple) for triple in itertools.product(OPERATORS, repeat=3)]
    for numbers in itertools.product(range(1, 10), repeat=4):
        solutions: dict[int, list[str]] = {}
        for triple in triples:
            results = evaluate(numbers, triple)
            if results is not None:
                solutions.setdefault(results[-1], []).append(triple)
        found += [Problem(numbers, target, tuple(ways)) for target, ways in solutions.items()]
    found = [problem for problem in found if split_of(problem.prompt) == split]
    random.Random(0).shuffle(found)
    return tuple(found)


def split_of(prompt: str) -> str:
    """Return the split of a prompt."""
    return {0: "dev", 1: "test"}.get(zlib.crc32(prompt.encode()) % 20, "train")


def failed_attempt(problem: Problem, rng: random.Random) -> str:
    """Return a completion that computes correctly and misses the target."""
    while True:
        triple = "".join(rng.choices(list(OPERATORS), k=3))
        results = evaluate(problem.numbers, triple)
        if results is not None and results[-1] != problem.target:
            return write(problem.numbers, triple)


def is_correct(prompt: str, completion: str) -> bool:
    """
    Return whether the last attempt uses the numbers in order, computes every step correctly and reaches the target.

    Example:
    ```python
    >>> is_correct("6 1 3 3=12|", "6-1=5;5*3=15;15-3=12")
    True
    ```
    """
    left, target = prompt.rstrip("|").split("=")
    numbers = [int(number) for number in left.split()]
    steps = completion.split("/")[-1].split(";")
    if len(steps) != len(numbers) - 1:
        return False
    value = numbers[0]
    for step, number in zip(steps, numbers[1:], strict=True):
        match = _STEP.fullmatch(step)
        if match is None or (int(match[1]), int(match[3])) != (value, number):
            return False
        value = OPERATORS[match[2]](value, number)
        if value != int(match[4]):
            return False
    return value == int(target)


def extract_answer(completion: str) -> str | None:
    """Return the three operators of the last attempt, for votes; `None` if it has another form."""
    matches = [_STEP.fullmatch(step) for step in completion.split("/")[-1].split(";")]
    if len(matches) != 3 or None in matches:
        return None
    return "".join(match[2] for match in matches)
