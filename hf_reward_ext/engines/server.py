"""Generator that asks a server with the OpenAI-compatible API, such as vLLM, SGLang or `transformers serve`."""

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from hf_reward_ext.base.scoring.conversation import starts_answer
from hf_reward_ext.engines.connection import BrokenAnswerError, Connection, RefusedError, Session, gather
from hf_reward_ext.engines.generator import Generated, Prompt, Sampling, derive_seed
from hf_reward_ext.engines.prompt_ids import check_prompts

# Fields of a request that a candidate can do without.
_OPTIONAL = ("n", "logprobs", "return_token_ids")
_WHOLE = (None, "stop", "length", "eos", "tool_calls", "function_call")


class ServerGenerator:
    """
    Generator of candidates by a running server with the OpenAI-compatible API.

    Text prompts are sent to `/completions` and messages to `/chat/completions`. All candidates of a prompt are asked
    for in one request; a server that ignores or refuses `n` gets one request for each. Log-probabilities and token ids
    are asked for too, and a server that refuses these fields is asked without them. Seeds depend on seed, prompt and
    number of the candidate only.

    Args:
        url (`str`): Address of the API, such as `http://127.0.0.1:8000/v1`.
        model (`str`): Name under which the server lists the model.
        api_key (`str`, *optional*): Key of the server. Default: the environment variable `HF_REWARD_EXT_API_KEY`.
        concurrency (`int`, *optional*, defaults to 16): Maximum number of requests at a time.
        timeout (`float`, *optional*, defaults to 600): Maximum number of seconds without a byte of an answer.
        retries (`int`, *optional*, defaults to 6): Number of repetitions of a request, see [`Connection`].
        retry_delay (`float`, *optional*, defaults to 0.5): Maximum delay before the first repetition, in seconds.
        token_ids (`bool`, *optional*, defaults to `False`): Whether to ask for the ids of the tokens
            (`return_token_ids` of vLLM).

    Raises:
        TypeError, ValueError: If an argument is out of its range, or `url` is not an HTTP address.

    Example:
    ```python
    >>> generator = ServerGenerator("http://127.0.0.1:8000/v1", "Qwen/Qwen3-0.6B")
    >>> [candidates] = generator.generate(["2+2="], 16, Sampling(max_new_tokens=8))
    ```
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        concurrency: int = 16,
        timeout: float = 600.0,
        retries: int = 6,
        retry_delay: float = 0.5,
        token_ids: bool = False,
    ):
        if not isinstance(model, str) or not model:
            raise ValueError(f"`model` must be the name of a model on the server, got {model!r}. Pass its name.")
        self.connection = Connection(
            url, api_key=api_key, concurrency=concurrency, timeout=timeout, retries=retries, retry_delay=retry_delay
        )
        self.model = model
        self._refused: set[str] = set() if token_ids else {"return_token_ids"}

    def describe(self) -> dict[str, Any]:
        """Return the name of the model; a server may move to another address."""
        return {"engine": "server", "model": self.model}

    def generate(
        self, prompts: Sequence[Prompt], num_candidates: int, sampling: Sampling, first: int = 0
    ) -> list[list[Generated]]:
        """
        Write candidates of every prompt, see [`Generator`].

        Raises:
            TypeError, ValueError: If a prompt is neither text nor messages, or a chat ends with the beginning of an
                answer, which the API cannot continue.
            RuntimeError: If the server refuses a request, with its answer, or does not answer it.
        """
        sampling.check_variety(num_candidates)
        check_prompts(prompts)
        for index, prompt in enumerate(prompts):
            if starts_answer(prompt):
                raise ValueError(
                    f"`prompts[{index}]` must end with a user's message, got the beginning of an answer, which a "
                    "server does not continue. Use the engine 'transformers', or leave that message out."
                )

        async def ask(session: Session) -> list[list[Generated]]:
            return await gather(
                *(self._candidates(session, prompt, num_candidates, sampling, first) for prompt in prompts)
            )

        return self.connection.run(ask)

    async def _candidates(
        self, session: Session, prompt: Prompt, count: int, sampling: Sampling, first: int
    ) -> list[Generated]:
        got: list[Generated] = []
        if count > 1 and "n" not in self._refused:
            got = await self._ask(session, prompt, count, sampling, first)
            if len(got) < count:
                self._refused.add("n")
        rest = range(first + len(got), first + count)
        singles = await gather(*(self._ask(session, prompt, 1, sampling, number) for number in rest))
        return [*got, *(one for single in singles for one in single)]

    async def _ask(
        self, session: Session, prompt: Prompt, count: int, sampling: Sampling, number: int
    ) -> list[Generated]:
        """Return one to `count` candidates; fields that the server refuses are left out from then on."""
        while True:
            is_text = isinstance(prompt, str)
            body = self._body(prompt, 1 if "n" in self._refused else count, sampling, number)
            try:
                path = "/completions" if is_text else "/chat/completions"
                return await session.post(path, body, partial(_read, is_text=is_text, most=body.get("n", 1)))
            except RefusedError as error:
                named = {name for name in _OPTIONAL if name in body and _names(error.answer, name)}
                if error.status not in (400, 422) or not named:
                    raise
                self._refused |= named

    def _body(self, prompt: Prompt, count: int, sampling: Sampling, number: int) -> dict[str, Any]:
        is_text = isinstance(prompt, str)
        body: dict[str, Any] = {
            "model": self.model,
            "prompt" if is_text else "messages": prompt,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": derive_seed(sampling.seed, prompt, number),
            "logprobs": 1 if is_text else True,
            "return_token_ids": True,
        }
        if count > 1:
            body["n"] = count
        for name in ("top_p", "top_k"):
            if getattr(sampling, name) is not None:
                body[name] = getattr(sampling, name)
        return {name: value for name, value in body.items() if name not in self._refused}


def _names(answer: str, field: str) -> bool:
    """Return whether an answer names a field: `n` in quotes, as it is a letter of words too."""
    return re.search(rf"""["'`]{field}["'`]""" if field == "n" else rf"\b{field}\b", answer) is not None


def _read(answer: Any, is_text: bool, most: int) -> list[Generated]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) not in (1, most):  # one choice: the server ignores `n`
        found = len(choices) if isinstance(choices, list) else "no list of"
        raise BrokenAnswerError(f"an answer with {found} choices of {most}")
    indices = [one.get("index", 0) if isinstance(one, dict) else 0 for one in choices]
    if not all(isinstance(index, int) for index in indices):
        raise BrokenAnswerError(f"choices whose indices are {indices}")
    choices = [choices[place] for place in sorted(range(len(choices)), key=indices.__getitem__)]
    usage = answer.get("usage") or {}
    total = usage.get("completion_tokens") if len(choices) == 1 and isinstance(usage, dict) else None
    if total is not None and not _is_count(total):
        raise BrokenAnswerError(f"{total!r} tokens")
    return [_read_choice(one, is_text, total) for one in choices]


def _read_choice(choice: Any, is_text: bool, total: int | None) -> Generated:
    try:
        reason = choice.get("finish_reason")
        text = choice["text"] if is_text else choice["message"]["content"]
        scored = choice.get("logprobs") or {}
        found = scored.get("token_logprobs") if is_text else [one["logprob"] for one in scored.get("content") or ()]
        log_probabilities = list(found) if found else None
        token_ids = list(choice["token_ids"]) if choice.get("token_ids") else None
    except (AttributeError, KeyError, TypeError) as error:
        raise BrokenAnswerError(f"a choice of another form: {type(error).__name__} {error}") from error
    if reason not in _WHOLE:
        raise BrokenAnswerError(f"a choice that ended with {reason!r}")
    if text is not None and not _is_text(text):
        raise BrokenAnswerError("a choice whose text is not text")
    if not all(map(_is_log_probability, log_probabilities or ())):
        raise BrokenAnswerError("a choice whose log-probabilities are not finite numbers of at most 0")
    if not all(map(_is_count, token_ids or ())):
        raise BrokenAnswerError("a choice whose token ids are not integers of at least 0")
    if token_ids and log_probabilities and len(token_ids) != len(log_probabilities):
        raise BrokenAnswerError(f"{len(log_probabilities)} log-probabilities of {len(token_ids)} tokens")
    count = next((len(one) for one in (token_ids, log_probabilities) if one is not None), total)
    return Generated(text or "", count, token_ids, log_probabilities)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_log_probability(value: Any) -> bool:
    # Rounding puts the most probable tokens slightly above 0.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value < 1e-2


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
