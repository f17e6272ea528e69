"""Requests to a JSON API over HTTP: bounded concurrency, time limits, retries with growing random delays."""

import asyncio
import ipaddress
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hf_reward_ext.base.options import check_count, check_number

Answer = TypeVar("Answer")
API_KEY = "HF_REWARD_EXT_API_KEY"
# Answers that the same request may not get again: too early, too many, or a fault of the server.
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_DELAY = 60.0
_SHOWN = 500


class RefusedError(RuntimeError):
    """Error of a request that the server refused, and would refuse again."""

    def __init__(self, message: str, status: int, answer: str):
        super().__init__(message)
        self.status = status
        self.answer = answer


class BrokenAnswerError(ValueError):
    """Error of an answer that does not have the promised form; the request is repeated."""


class Connection:
    """
    Connection to a server with a JSON API.

    A request that fails on the way, takes too long, or is answered by 408, 425, 429, 500, 502, 503, 504 or by broken
    JSON is repeated after a random delay, whose maximum doubles each time; a `Retry-After` of the server is respected.
    Redirects are not followed.

    Args:
        url (`str`): Base address, such as `http://127.0.0.1:8000/v1`.
        api_key (`str`, *optional*): Key that is sent as a bearer token. Default: the environment variable
            `HF_REWARD_EXT_API_KEY`, if it is set.
        concurrency (`int`, *optional*, defaults to 16): Maximum number of requests at a time.
        timeout (`float`, *optional*, defaults to 600): Maximum number of seconds without a byte of the answer.
        retries (`int`, *optional*, defaults to 6): Number of repetitions of a request.
        retry_delay (`float`, *optional*, defaults to 0.5): Maximum delay before the first repetition, in seconds.

    Raises:
        TypeError, ValueError: If an argument is out of its range, or `url` is not an HTTP address.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        concurrency: int = 16,
        timeout: float = 600.0,
        retries: int = 6,
        retry_delay: float = 0.5,
    ):
        self.url = check_url(url)
        check_count("concurrency", concurrency)
        check_number("timeout", timeout, above=0)
        check_count("retries", retries, 0)
        check_number("retry_delay", retry_delay, least=0)
        self.concurrency = concurrency
        self.timeout = timeout
        self.retries = retries
        self.retry_delay = retry_delay
        self._api_key = check_key(api_key)

    def run(self, work: Callable[["Session"], Awaitable[Answer]]) -> Answer:
        """
        Run asynchronous requests to their end, also from a thread with a running event loop, such as a notebook's.

        Args:
            work (`callable`): Function of an open [`Session`].
        """

        async def opened() -> Answer:
            async with self.session() as session:
                return await work(session)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(opened())
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, opened()).result()

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Session"]:
        """Open a session in the running event loop."""
        httpx2 = _import_httpx2()
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        limits = httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        proxied = not is_loopback(str(urlsplit(self.url).hostname))  # a proxy of the environment is for other machines
        async with httpx2.AsyncClient(
            headers=headers, timeout=self.timeout, limits=limits, trust_env=proxied
        ) as client:
            yield Session(self, client)


class Session:
    """Open [`Connection`], used within one event loop."""

    def __init__(self, connection: Connection, client: Any):
        self.connection = connection
        self._client = client
        self._free = asyncio.Semaphore(connection.concurrency)

    async def post(self, path: str, body: dict[str, Any], read: Callable[[Any], Answer]) -> Answer:
        """
        Send a request until it is answered.

        Args:
            path (`str`): Path below the address of the connection.
            body (`dict`): Request as JSON values.
            read (`callable`): Function from the answer to its content, which raises [`BrokenAnswerError`] for an
                answer of another form.

        Raises:
            TypeError, ValueError: If the request has other values than those of JSON.
            RefusedError: If the server refuses the request.
            RuntimeError: If all attempts fail.
        """
        url, data = self.connection.url + path, _as_json(body)
        fault, delay = "", 0.0
        for attempt in range(self.connection.retries + 1):
            if attempt:
                await asyncio.sleep(max(delay, random.uniform(0, self._longest_delay(attempt))))
            async with self._free:
                status, text, delay, fault = await self._send(url, data)
            if fault:
                continue
            if status >= 300:
                raise RefusedError(
                    f"{url} must accept the request, but it answered {status}: {_shorten(text)}. Change the request or "
                    "the server.",
                    status,
                    text,
                )
            try:
                return read(_parse(text))
            except BrokenAnswerError as error:
                fault = f"{error} (in {_shorten(text)})"
        raise RuntimeError(
            f"{url} must answer, but {self.connection.retries + 1} attempts failed, the last one with: {fault}. Check "
            "the server; a run with an output file resumes."
        )

    async def _send(self, url: str, data: bytes) -> tuple[int, str, float, str]:
        """Return status, text, requested delay, and the fault if the request can be repeated."""
        httpx2 = _import_httpx2()
        try:
            response = await self._client.post(url, content=data, headers={"Content-Type": "application/json"})
        except httpx2.TransportError as error:
            return 0, "", 0.0, f"{type(error).__name__} {error}".strip()
        except httpx2.DecodingError as error:
            return 0, "", 0.0, f"an answer that cannot be decompressed: {error}"
        if response.status_code in _RETRIED:
            fault = f"answer {response.status_code}: {_shorten(response.text)}"
            return response.status_code, response.text, _requested_delay(response.headers), fault
        return response.status_code, response.text, 0.0, ""

    def _longest_delay(self, attempt: int) -> float:
        return min(_LONGEST_DELAY, self.connection.retry_delay * 2 ** (attempt - 1))


def check_url(url: str) -> str:
    """Return an HTTP address without a slash at its end; raise an error for anything else."""
    if not isinstance(url, str):
        raise TypeError(f"`url` must be text, got a `{type(url).__name__}`. Pass an address.")
    try:
        parts = urlsplit(url)
        is_known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_known = False
    if not is_known or any(mark in url for mark in "@?#") or not url.isprintable() or " " in url:
        raise ValueError(
            f"`url` must be an address such as 'http://127.0.0.1:8000/v1', got {url!r}. Pass one without user, query "
            "and fragment."
        )
    return url.rstrip("/")


def check_key(api_key: str | None) -> str | None:
    """
    Return the key of a server.

    Args:
        api_key (`str`, *optional*): Key. Default: the environment variable `HF_REWARD_EXT_API_KEY`, if it is not empty.

    Raises:
        TypeError: If it is not text.
        ValueError: If it is empty, or a header cannot hold it; the message does not show it.
    """
    api_key = os.environ.get(API_KEY) or None if api_key is None else api_key
    if api_key is not None and not isinstance(api_key, str):
        raise TypeError(f"`api_key` must be text, got a `{type(api_key).__name__}`. Pass the key.")
    if api_key is not None and not (
        api_key and api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()
    ):
        raise ValueError(
            f"`api_key` (or {API_KEY}) must be printable ASCII text without spaces around it, got other text of "
            f"{len(api_key)} characters. Correct it."
        )
    return api_key


def _import_httpx2() -> Any:
    try:
        import httpx2  # only needed with a server
    except ImportError as error:
        raise ImportError("A server needs the package `httpx2`. Run `pip install hf_reward_ext[serve]`.") from error
    return httpx2


def is_loopback(host: str) -> bool:
    """Return whether an address or name is that of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def gather(*works: Awaitable[Answer]) -> list[Answer]:
    """Wait for all works; the first error cancels the others and is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_as_coroutine(work)) for work in works]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _as_coroutine(work: Awaitable[Answer]) -> Answer:
    return await work


def _as_json(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"The prompts, completions and columns of a request must be JSON values, got others: {error}. Convert "
            "them to text, finite numbers, lists and dictionaries."
        ) from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenAnswerError(f"an answer that is not JSON: {error}") from error


def _requested_delay(headers: Any) -> float:
    """Return the seconds of `Retry-After`, a number or a date; 0 if it is neither."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    return max(0.0, min(seconds, _LONGEST_DELAY)) if seconds == seconds else 0.0


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
