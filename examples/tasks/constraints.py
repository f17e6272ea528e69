"""
Constraint following: short texts about a topic whose form a program can check.

"Write one sentence about a lighthouse. Use at most 12 words." A response is right if it has the requested number of
sentences and follows the other constraint. Prompts, word lists and checkers are our own; topics of the splits differ.
SmolLM2-135M-Instruct follows about a third of these prompts.
"""

import random
import re
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]
MAX_NEW_TOKENS = 48

_TOPICS = {
    "train": (
        "cats|the sea|a train station|coffee|a lighthouse|winter mornings|a violin|the moon|bread|a garden|old maps|"
        "a river|bicycles|honey bees|a small village|the desert|a library|rain|an apple tree|a fishing boat|mountains|"
        "a kitchen|clouds|a market|horses|a candle|the night sky|a football match|paper|an island|a bridge|snow|dogs|"
        "a school|a clock|the forest|tea|a farmer|a painter|butterflies|an airport|a lake|chess|the wind|a castle|"
        "shoes|a bakery|spring flowers|an elephant|a tram|glass|a piano|autumn leaves|a campfire|a museum|salt"
    ).split("|"),
    "validation": "a harbor|owls|a mirror|soup|the first day of school|a tunnel|roses|a robot|a waterfall|cheese".split(
        "|"
    ),
    "test": (
        "a wolf|an orchard|the city at night|a sailor|ice cream|a telescope|wool|a storm|a circus|oranges|a doctor|"
        "the beach|a drum|an old house|penguins|a valley|a letter|gold|a balloon|the sun|a tailor|swans|pepper|a canyon"
    ).split("|"),
}
_REQUIRED = ("quiet", "bright", "old", "always")
_FORBIDDEN = ("the", "and", "is", "of")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['’-][A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Problem:
    """
    Topic and constraints of a text.

    Args:
        topic (`str`): Topic.
        num_sentences (`int`): Number of sentences.
        max_words (`int`, *optional*): Maximum number of words.
        required, forbidden (`str`, *optional*): Word that the text must or must not contain.
    """

    topic: str
    num_sentences: int = 1
    max_words: int | None = None
    required: str | None = None
    forbidden: str | None = None

    @property
    def question(self) -> str:
        """Text of the prompt."""
        count = "one sentence" if self.num_sentences == 1 else "exactly two sentences"
        parts = [f"Write {count} about {self.topic}."]
        if self.max_words:
            parts.append(f"Use at most {self.max_words} words.")
        if self.required:
            parts.append(f'Use the word "{self.required}".')
        if self.forbidden:
            parts.append(f'Do not use the word "{self.forbidden}".')
        return " ".join(parts)

    @property
    def messages(self) -> list[dict]:
        """Prompt as a chat."""
        return [{"role": "user", "content": self.question}]


def problems(split: Split, count: int, seed: int = 0) -> list[Problem]:
    """
    Return different problems of a split.

    Raises:
        ValueError: If the split does not have as many.
    """
    every = [problem for topic in _TOPICS[split] for problem in _about(topic)]
    if count > len(every):
        raise ValueError(f"`count` must be at most {len(every)} for {split!r}, got {count}. Ask for fewer.")
    return random.Random(f"{split} {seed}").sample(every, count)


def _about(topic: str) -> list[Problem]:
    return [
        *(Problem(topic, max_words=limit) for limit in (14, 16, 18, 20)),
        *(Problem(topic, required=word) for word in _REQUIRED),
        *(Problem(topic, forbidden=word) for word in _FORBIDDEN),
        Problem(topic, num_sentences=2),
    ]


def words(text: str) -> list[str]:
    """Return the words of a text, as written."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; a line break ends one too."""
    return [part for line in text.strip().splitlines() for part in _SENTENCE_END.split(line.strip()) if words(part)]


def is_right(problem: Problem, text: str) -> bool:
    """Return whether a response follows every constraint."""
    return all(is_kept for is_kept, _ in _findings(problem, text))


def explain(problem: Problem, text: str) -> str:
    """
    Return a written judgment of a response: what was counted, and whether each constraint is followed.

    It numbers the words where they are counted, so that a model can continue the count instead of guessing it.
    """
    return " ".join(finding for _, finding in _findings(problem, text))


def _findings(problem: Problem, text: str) -> list[tuple[bool, str]]:
    count, own = len(sentences(text)), words(text)
    lower = [word.lower() for word in own]
    found = [_finding(count == problem.num_sentences, f"{count} of {problem.num_sentences} sentences")]
    if problem.max_words:
        counted = " ".join(f"{number} {word}" for number, word in enumerate(own[: problem.max_words + 1], 1))
        found.append(_finding(len(own) <= problem.max_words, f"at most {problem.max_words} words: {counted}"))
    if problem.required:
        found.append(_finding(problem.required in lower, f'"{problem.required}" in {" ".join(lower)}'))
    if problem.forbidden:
        found.append(_finding(problem.forbidden not in lower, f'no "{problem.forbidden}" in {" ".join(lower)}'))
    return found


def _finding(is_kept: bool, text: str) -> tuple[bool, str]:
    return is_kept, f"{text}: {'yes' if is_kept else 'no'}."
