"""Human preferences in the format of HH-RLHF (MIT, anthropics/hh-rlhf)."""

import gzip
import json
import re
from pathlib import Path

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def read_pairs(path: str | Path) -> list[dict]:
    """
    Read the pairs as `{prompt, chosen, rejected}` of messages.

    Pairs whose dialogues differ before the last turn, that do not end with the assistant, or with an empty or equal
    response are left out.

    Args:
        path (`str` or `Path`): JSON lines with the dialogues `chosen` and `rejected`, may be gzipped.
    """
    path = Path(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        sides = [[read_dialogue(row[side]) for side in ("chosen", "rejected")] for row in map(json.loads, file)]
    return [
        {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}
        for chosen, rejected in sides
        if chosen[:-1] == rejected[:-1] and _is_usable(chosen) and _is_usable(rejected) and chosen != rejected
    ]


def read_dialogue(text: str) -> list[dict]:
    """
    Return the messages of a dialogue with turns marked `Human:` and `Assistant:`.

    Raises:
        ValueError: If it does not begin with a turn.
    """
    before, *parts = _TURN.split(text)
    if before.strip() or not parts:
        raise ValueError(f"A dialogue must begin with a turn of 'Human' or 'Assistant', got {text[:60]!r}.")
    return [
        {"role": _ROLES[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _is_usable(messages: list[dict]) -> bool:
    return len(messages) > 1 and messages[-1]["role"] == "assistant" and bool(messages[-1]["content"])
