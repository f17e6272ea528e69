"""What a page shows of a row: turns of a chat, answers with colored tokens, and trees."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """Message of a chat, or a text without role."""

    role: str
    text: str


class Token(NamedTuple):
    """Token with its number, and the strength of its color, from -1 (orange) to 1 (blue)."""

    text: str
    value: float
    weight: float


class Answer(NamedTuple):
    """
    A completion.

    Attributes:
        turns (`list[Turn]`): Text, or messages.
        tokens (`list[Token]`): Tokens with colors; none without a trace.
        reward (`float`, *optional*): Reward.
        share (`float`, *optional*): Length of its bar, between 0 and 1.
        is_right (`bool`, *optional*): Label.
        facts (`list[str]`): Remarks: number of tokens, answer, ...
    """

    turns: list[Turn]
    tokens: Sequence[Token] = ()
    reward: float | None = None
    share: float | None = None
    is_right: bool | None = None
    facts: Sequence[str] = ()


class Card(NamedTuple):
    """
    Everything that a page shows of one row.

    Attributes:
        prompt (`list[Turn]`): Prompt.
        answers (`list[Answer]`): Completions, best first.
        tree (`list[dict]`): Nodes of a search, depth first; empty without one.
        judgment (`dict`, *optional*): Numbers of a judgment of the answers.
    """

    prompt: list[Turn]
    answers: list[Answer]
    tree: Sequence[Mapping[str, Any]] = ()
    judgment: dict[str, Any] | None = None


def as_turns(value: Any) -> list[Turn]:
    """Return the turns of a text, or of messages."""
    if isinstance(value, str):
        return [Turn("", value)]
    return [Turn(str(turn["role"]), _content(turn["content"])) for turn in value]


def _content(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def color(traces: Sequence[Mapping[str, Any]], around_mean: bool) -> dict[int, list[Token]]:
    """
    Return the tokens of the traces of one row, by the index of their completion.

    Args:
        traces (`list[dict]`): Traces with `index`, `tokens` and `values`.
        around_mean (`bool`): Whether a number without color is the mean of the row, and not 0.
    """
    values = [value for trace in traces for value in trace["values"]]
    middle = sum(values) / len(values) if values and around_mean else 0.0
    largest = max((abs(value - middle) for value in values), default=0.0) or 1.0
    return {
        trace["index"]: [
            Token(text, value, (value - middle) / largest)
            for text, value in zip(trace["tokens"], trace["values"], strict=True)
        ]
        for trace in traces
    }
