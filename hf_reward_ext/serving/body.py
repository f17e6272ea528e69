"""Reading of requests within limits of size and time, and with a key, before anything is parsed."""

import asyncio
import hmac
import json
from typing import Any

from hf_reward_ext.serving.limits import Limits

_OPEN = ("/health",)


class GuardedBody:
    """
    ASGI middleware that reads the whole body of a request, or answers 401, 408 or 413.

    Args:
        app: ASGI application.
        limits ([`Limits`]): Size and time of a body.
        api_key (`str`, *optional*): Key that requests must have as a bearer token, except `/health`.
    """

    def __init__(self, app: Any, limits: Limits, api_key: str | None = None):
        self._app = app
        self._limits = limits
        self._expected = None if api_key is None else f"Bearer {api_key}".encode()

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._expected is not None and scope["path"] not in _OPEN:
            if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
                await _answer(send, 401, "The request must have the server's key: `Authorization: Bearer KEY`.")
                return
        limit = self._limits.max_body_bytes
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await _read(receive, limit)
        except TimeoutError:
            await _answer(
                send, 408, f"The request must arrive within {self._limits.body_seconds} seconds. Send it again."
            )
            return
        if body is None:
            await _answer(send, 413, f"The request must have at most {limit} bytes. Send fewer rows at a time.")
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(receive: Any, limit: int) -> bytes | None:
    """Return the body, or `None` if it is too large: it is read to its end, so that the client reads the answer."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts) if size <= limit else None


def _replay(body: bytes, receive: Any) -> Any:
    given = False

    async def replayed() -> dict:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _answer(send: Any, status: int, message: str) -> None:
    body = json.dumps(describe_error(status, message)).encode()
    # The rest of the request is not read, so the connection cannot be used again.
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


def describe_error(status: int, message: str) -> dict[str, Any]:
    """Return the JSON values of an error, in the form of the OpenAI API."""
    return {
        "error": {"message": message, "type": "invalid_request" if status < 500 else "server_error", "code": status}
    }
