"""
Walk task: six steps on the line 0..39, left or right, without landing on a forbidden cell (multiple of 3 or 5).

Prompt `w18 4 2 9 1 5 3|`, completion `4+22.2+24x...`: the size of each step, the sign, the cell, and `.` for a safe
or `x` for a forbidden cell. A walk without `x` is correct. An early `x` shows that the walk has failed.
"""

import random
import re
import zlib
from functools import lru_cache
from typing import NamedTuple

CELLS = 40
STEPS = 6
MAX_NEW_TOKENS = 4 * STEPS + 2
_MOVE = re.compile(r"(\d+)([+-])(\d+)([.x])")


class Walk(NamedTuple):
    """A start cell and the sizes of the steps, all different."""

    start: int
    sizes: tuple[int, ...]

    @property
    def prompt(self) -> str:
        return f"w{self.start} {' '.join(map(str, self.sizes))}|"


def is_forbidden(cell: int) -> bool:
    return cell % 3 == 0 or cell % 5 == 0


def moves(cell: int, size: int) -> list[int]:
    """Return the cells on the line that one step can reach."""
    return [landing for landing in (cell - size, cell + size) if 0 <= landing < CELLS]


@lru_cache(maxsize=1 << 20)
def is_solvable(cell: int, sizes: tuple[int, ...]) -> bool:
    """Return whether all steps can be taken on safe cells from here."""
    if not sizes:
        return True
    return any(not is_forbidden(landing) and is_solvable(landing, sizes[1:]) for landing in moves(cell, sizes[0]))


def random_walks(split: str, count: int, seed: int = 0) -> list[Walk]:
    """Return the distinct solvable walks of a split (`"train"`, `"dev"`, `"test"`; by a hash of the prompt)."""
    rng, found = random.Random(f"{split}-{seed}"), {}
    while len(found) < count:
        walk = Walk(rng.randrange(CELLS), tuple(rng.sample(range(1, 10), STEPS)))
        if split_of(walk.prompt) == split and is_solvable(*walk):
            found[walk.prompt] = walk
    return list(found.values())


def split_of(prompt: str) -> str:
    """Return the split of a prompt."""
    return {0: "dev", 1: "test"}.get(zlib.crc32(prompt.encode()) % 20, "train")


def write(walk: Walk, rng: random.Random, foresight: int) -> str:
    """
    Return a walk with `foresight` steps of look-ahead (`STEPS`: never fails on a solvable walk).

    The walk continues after a forbidden cell, so that the marks of failed walks occur too.
    """
    cell, text = walk.start, ""
    for number, size in enumerate(walk.sizes):
        ahead = walk.sizes[number + 1 : number + foresight]
        landings = moves(cell, size)
        good = [
            landing for landing in landings if foresight and not is_forbidden(landing) and is_solvable(landing, ahead)
        ]
        landing = rng.choice(good or landings)
        text += f"{size}{'+' if landing > cell else '-'}{landing}{'x' if is_forbidden(landing) else '.'}"
        cell = landing
    return text


def is_correct(prompt: str, completion: str) -> bool:
    """
    Return whether every step is taken, lands where its sign says, and no landing is forbidden.

    Example:
    ```python
    >>> is_correct("w1 1 3|", "1+2.3+5x")
    False
    ```
    """
    start, *sizes = (int(number) for number in re.findall(r"\d+", prompt))
    found = _MOVE.findall(completion)
    if len(found) != len(sizes) or "".join("".join(move) for move in found) != completion:
        return False
    cell = start
    for (written, sign, landing, mark), size in zip(found, sizes, strict=True):
        cell += size if sign == "+" else -size
        if size != int(written) or cell != int(landing) or not 0 <= cell < CELLS or is_forbidden(cell) or mark != ".":
            return False
    return True


def extract_answer(completion: str) -> str | None:
    """Return the signs of the steps, for votes; `None` if the completion has another form."""
    found = _MOVE.findall(completion)
    return "".join(sign for _, sign, _, _ in found) if len(found) == STEPS else None
