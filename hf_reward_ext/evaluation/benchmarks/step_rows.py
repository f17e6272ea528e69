"""Solutions with labeled steps: rows of ProcessBench and PRMBench, and their published rules."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class StepRow(NamedTuple):
    """
    A problem, the steps of a solution, and which of them are wrong.

    Args:
        prompt (`str`): Problem.
        steps (`list[str]`): Steps of the solution.
        wrong (`list[int]`): Indices of the wrong steps, from 0.
        subset, name (`str`): Subset, and id of the row.
    """

    prompt: str
    steps: list[str]
    wrong: list[int]
    subset: str
    name: str


class StepBenchmark(NamedTuple):
    """
    A benchmark of steps.

    Args:
        what (`str`): Name, for messages.
        columns (`tuple[str, ...]`): Columns of its rows.
        read (`callable`): Reader of a row.
        counts (`callable`): Function from a row and its accepted steps to the counts that values are made of.
        values (`callable`): Function from sums of counts, `(resamples, counts)`, to values by name, `(resamples,)`.
    """

    what: str
    columns: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], StepRow]
    counts: Callable[[StepRow, Sequence[bool]], list[float]]
    values: Callable[[np.ndarray], dict[str, np.ndarray]]


def _read_process_bench(row: Mapping[str, Any]) -> StepRow:
    steps = _steps(row["steps"], "steps")
    label = row["label"]
    if not _is_between(label, -1, len(steps) - 1):
        raise ValueError(f"`label` must be the index of the first wrong of {len(steps)} steps or -1, got {label!r}.")
    name = _text(row["id"], "id")
    wrong = [] if label == -1 else [int(label)]
    return StepRow(_text(row["problem"], "problem"), steps, wrong, name.rpartition("-")[0], name)


def _first_error(row: StepRow, accepted: Sequence[bool]) -> list[float]:
    """Return whether the row has an error and whether the first rejected step is that one, for both kinds of rows."""
    found = next((index for index, is_right in enumerate(accepted) if not is_right), -1)
    match, has_error = float(found == (row.wrong[0] if row.wrong else -1)), float(bool(row.wrong))
    return [match * has_error, has_error, match * (1 - has_error), 1 - has_error]


def _first_error_values(sums: Float[np.ndarray, "resamples 4"]) -> dict[str, np.ndarray]:
    wrong, right = _ratio(sums[:, 0], sums[:, 1]), _ratio(sums[:, 2], sums[:, 3])
    return {"f1": _ratio(2 * wrong * right, wrong + right), "error_accuracy": wrong, "correct_accuracy": right}


def _read_prm_bench(row: Mapping[str, Any]) -> StepRow:
    steps, errors = _steps(row["modified_process"], "modified_process"), row["error_steps"]
    if not isinstance(errors, list | tuple) or not all(_is_between(one, 1, len(steps)) for one in errors):
        raise ValueError(f"`error_steps` must be numbers of steps from 1 to {len(steps)}, got {errors!r:.80}.")
    wrong = sorted({int(one) - 1 for one in errors})
    prompt = _text(row["modified_question"], "modified_question")
    return StepRow(prompt, steps, wrong, _text(row["classification"], "classification"), _text(row["idx"], "idx"))


def _is_between(value: Any, least: int, most: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def _every_step(row: StepRow, accepted: Sequence[bool]) -> list[float]:
    """Return the counts of true and false, accepted and rejected steps: TP, FP, TN, FN with right steps as positive."""
    wrong = [index in row.wrong for index in range(len(row.steps))]
    pairs = list(zip(accepted, wrong, strict=True))
    kinds = ((True, False), (True, True), (False, True), (False, False))
    return [float(pairs.count(kind)) for kind in kinds]


def _every_step_values(sums: Float[np.ndarray, "resamples 4"]) -> dict[str, np.ndarray]:
    true_right, false_right, true_wrong, false_wrong = sums.T
    f1 = _ratio(2 * true_right, 2 * true_right + false_right + false_wrong)
    negative = _ratio(2 * true_wrong, 2 * true_wrong + false_right + false_wrong)
    return {"prm_score": (f1 + negative) / 2, "f1": f1, "negative_f1": negative}


STEP_BENCHMARKS = {
    "processbench": StepBenchmark(
        "ProcessBench", ("id", "problem", "steps", "label"), _read_process_bench, _first_error, _first_error_values
    ),
    "prmbench": StepBenchmark(
        "PRMBench",
        ("idx", "modified_question", "modified_process", "error_steps", "classification"),
        _read_prm_bench,
        _every_step,
        _every_step_values,
    ),
}


def _steps(value: Any, column: str) -> list[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(step, str) for step in value):
        raise ValueError(f"`{column}` must be a list of at least one step as text, got {value!r:.80}.")
    return list(value)


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{column}` must be text, got {value!r:.80}.")
    return value


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the ratio, 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part, dtype=float), where=whole > 0)
