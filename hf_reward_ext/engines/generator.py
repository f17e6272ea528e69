"""Generators: prompts in, candidates out, by any engine."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from hf_reward_ext.base.options import SEED, check_count, check_number

Prompt = str | list[dict]


@dataclass(frozen=True)
class Sampling:
    """
    Sampling of candidates, the same for every engine.

    Args:
        max_new_tokens (`int`, *optional*, defaults to 256): Maximum number of tokens of a candidate.
        temperature (`float`, *optional*, defaults to 1.0): Temperature; 0 for greedy decoding.
        top_p (`float`, *optional*): Probability mass of the tokens to sample from. Default: all.
        top_k (`int`, *optional*): Number of most probable tokens to sample from. Default: all.
        seed (`int`, *optional*, defaults to 0): Random seed.

    Raises:
        TypeError, ValueError: If a value is out of its range.

    Example:
    ```python
    >>> Sampling(max_new_tokens=64, temperature=0.8)
    ```
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self):
        check_count("max_new_tokens", self.max_new_tokens)
        check_number("temperature", self.temperature, least=0)
        if self.top_p is not None:
            check_number("top_p", self.top_p, above=0, most=1)
        if self.top_k is not None:
            check_count("top_k", self.top_k)
        SEED.check("seed", self.seed)

    def check_variety(self, num_candidates: int) -> None:
        """Raise `ValueError` if several candidates are asked for, but all would be the same."""
        check_count("num_candidates", num_candidates)
        if self.temperature == 0 and num_candidates > 1:
            raise ValueError(
                f"`temperature` must be positive for {num_candidates} candidates, which are all the same otherwise, "
                "got 0. Pass a positive one."
            )

    def describe(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Generated:
    """
    A candidate as an engine returned it.

    Args:
        text (`str`): Completion without the prompt and without special tokens.
        num_tokens (`int`, *optional*): Number of generated tokens, EOS included; `None` if the engine does not count
            them.
        token_ids (`list[int]`, *optional*): Ids of the generated tokens, if the engine returns them.
        log_probabilities (`list[float]`, *optional*): Log-probability of each generated token before temperature and
            other processors, if the engine returns them.
        top_log_probabilities (`list[list[float]]`, *optional*): Largest log-probabilities where each token was chosen,
            in descending order, if the engine returns them.
    """

    text: str
    num_tokens: int | None = None
    token_ids: list[int] | None = None
    log_probabilities: list[float] | None = None
    top_log_probabilities: list[list[float]] | None = None


@runtime_checkable
class Generator(Protocol):
    """
    Protocol of engines that write candidates.

    Example:
    ```python
    >>> generator = TransformersGenerator(policy, tokenizer)
    >>> [candidates] = generator.generate(["2+2="], 16, Sampling(max_new_tokens=8))
    ```
    """

    def generate(
        self, prompts: Sequence[Prompt], num_candidates: int, sampling: Sampling, first: int = 0
    ) -> list[list[Generated]]:
        """
        Write candidates of every prompt.

        Args:
            prompts (`list` of `str` or of messages): Prompts.
            num_candidates (`int`): Number of candidates of each prompt.
            sampling ([`Sampling`]): Sampling of the candidates.
            first (`int`, *optional*, defaults to 0): Number of the first candidate: another one gives further
                candidates of the same prompts and seed.

        Returns:
            A `list` of [`Generated`] for each prompt.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the candidates depend on in addition to prompts and sampling, as JSON values."""
        ...


def derive_seed(seed: int, prompt: Prompt, number: int) -> int:
    """
    Return the seed of one candidate, which depends on seed, prompt and number only.

    Args:
        seed (`int`): Random seed of the run.
        prompt (`str` or messages): Prompt of the candidate.
        number (`int`): Number of the candidate, from 0.

    Returns:
        `int` below 2**31, which every server accepts.

    Raises:
        TypeError: If messages have other values than those of JSON.
    """
    try:
        text = json.dumps([seed, number, prompt], sort_keys=True, ensure_ascii=True)
    except TypeError as error:
        raise TypeError(
            f"A prompt must be text, or messages of JSON values, got others: {error}. Convert them to text."
        ) from error
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
