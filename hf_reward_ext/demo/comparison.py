"""Comparison of one method with its controls: the rows of its table, and sample texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hf_reward_ext.base.stats.intervals import Estimate, mean_with_interval


class Way(NamedTuple):
    """
    Row of a table: one way to decode or to choose, on held-out problems.

    Attributes:
        task (`str`): Task, a part of the table.
        name, what (`str`): Name and short description.
        right (`list[float]`): Success on each problem, between 0 and 1.
        tokens (`float`): Mean number of generated tokens per problem.
        seconds (`float`): Seconds of the training or sampling that this way needs; 0 if it needs nothing of its own.
        candidates (`str`): Name of the candidates that it chooses from, shared with the oracle; empty without choice.
        is_oracle (`bool`): Whether it is the upper bound of all choices among these candidates.
        series (`str`): Curve of the plot; empty for a bar.
        x (`float`, *optional*): Place on the horizontal axis of the plot.
    """

    task: str
    name: str
    what: str
    right: list[float]
    tokens: float
    seconds: float = 0.0
    candidates: str = ""
    is_oracle: bool = False
    series: str = ""
    x: float | None = None

    @property
    def accuracy(self) -> Estimate:
        """Mean over problems, with a confidence interval."""
        return mean_with_interval(np.array(self.right))


class SampleText(NamedTuple):
    """Text that a way generated or chose, whether it is right, and a remark (reward, confidence)."""

    name: str
    text: str
    is_right: bool
    remark: str = ""


class Example(NamedTuple):
    """Texts of several ways for one prompt."""

    prompt: str
    texts: list[SampleText]


class Comparison(NamedTuple):
    """
    Everything that the demo shows of one method.

    Attributes:
        method (`str`): Name of the method.
        question (`str`): What the table answers.
        axes (`dict` from `str` to `str`): Name of the horizontal axis of the plot of each task with curves.
        ways (`list[Way]`): Rows of the table.
        examples (`list[Example]`): Sample texts.
        seconds (`float`): Seconds of all its work.
    """

    method: str
    question: str
    axes: dict[str, str]
    ways: list[Way]
    examples: list[Example]
    seconds: float = 0.0

    @property
    def tasks(self) -> list[str]:
        """Parts of the table, in order."""
        return list(dict.fromkeys(way.task for way in self.ways))

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for `json`, with the accuracies of the rows."""
        rows = [{**way._asdict(), "accuracy": way.accuracy._asdict()} for way in self.ways]
        examples = [
            {"prompt": example.prompt, "texts": [text._asdict() for text in example.texts]} for example in self.examples
        ]
        return {**self._asdict(), "ways": rows, "examples": examples}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Comparison":
        """Return the comparison of [`to_json`]."""
        ways = [Way(**{name: row[name] for name in Way._fields}) for row in values["ways"]]
        examples = [Example(one["prompt"], [SampleText(**text) for text in one["texts"]]) for one in values["examples"]]
        return cls(**{**values, "ways": ways, "examples": examples})


def make_way(task: str, name: str, what: str, right: Sequence[float] | np.ndarray, tokens: float, **values) -> Way:
    """Return a row with plain numbers."""
    return Way(task, name, what, np.asarray(right, dtype=float).tolist(), float(tokens), **values)


def beyond_oracle(comparison: Comparison) -> list[str]:
    """Return the names of ways that are right where the oracle of the same candidates is not."""
    oracles = {(way.task, way.candidates): way.right for way in comparison.ways if way.is_oracle}
    return [
        way.name
        for way in comparison.ways
        if way.candidates
        and any(own > bound + 1e-9 for own, bound in zip(way.right, oracles[way.task, way.candidates], strict=True))
    ]
