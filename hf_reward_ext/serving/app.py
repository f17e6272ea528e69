"""ASGI application of a reward server."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException

from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.base.scoring.scorer import Scorer
from hf_reward_ext.serving.batching import BusyError, MicroBatcher, as_score
from hf_reward_ext.serving.body import GuardedBody, describe_error
from hf_reward_ext.serving.limits import Limits
from hf_reward_ext.serving.protocols import ClassifyRequest, QueryRequest, RewardsRequest, Rows, ScoreRequest

_log = logging.getLogger(__name__)
# Rewards differ by their model; a batch of a large one takes seconds.
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers


class _Service:
    """Scorer of an application with its queue, limits and counters."""

    def __init__(self, scorer: Scorer, limits: Limits):
        self.scorer = scorer
        self.limits = limits
        self.batcher = MicroBatcher(self._timed(as_score(scorer)), limits)
        self.registry = CollectorRegistry()
        self.answers = Counter("rewards_answers", "Answers by status", ["path", "status"], registry=self.registry)
        self.rows = Counter("rewards_rows", "Rows that were scored", registry=self.registry)
        self.batch_seconds = Histogram(
            "rewards_batch_seconds", "Time to score a batch", buckets=_SECONDS, registry=self.registry
        )
        waiting = Gauge("rewards_waiting_rows", "Rows that wait or are being scored", registry=self.registry)
        waiting.set_function(lambda: self.batcher.num_waiting)

    async def score(self, request: Rows) -> Rewards:
        prompts, completions, columns = request.rows()
        if len(prompts) > self.limits.max_rows:
            raise _RefusedError(413, f"A request must have at most {self.limits.max_rows} rows, got {len(prompts)}.")
        for name, texts in (("prompt", prompts), ("completion", completions)):
            for index, text in enumerate(texts):
                if _length(text) > self.limits.max_characters:
                    raise _RefusedError(
                        413,
                        f"The {name} of row {index} must have at most {self.limits.max_characters} characters, got "
                        f"{_length(text)}.",
                    )
        if not prompts:
            return []
        try:
            return await self.batcher.score(prompts, completions, columns)
        except BusyError as error:
            raise _RefusedError(429, str(error), {"Retry-After": "1"}) from error
        except (ValueError, TypeError) as error:
            raise _RefusedError(422, str(error)) from error

    def _timed(self, score: Any) -> Any:
        def timed(prompts: list, completions: list, columns: dict[str, list]) -> Rewards:
            start = time.perf_counter()
            rewards = score(prompts, completions, columns)
            self.batch_seconds.observe(time.perf_counter() - start)
            self.rows.inc(len(rewards))
            return rewards

        return timed


def create_app(scorer: Scorer, limits: Limits, api_key: str | None, missing_reward: float | None) -> Any:
    """
    Return the ASGI application that serves a scorer.

    Args:
        scorer ([`Scorer`]): Scorer to serve.
        limits ([`Limits`]): Limits of requests and batches.
        api_key (`str`, *optional*): Key that requests must have.
        missing_reward (`float`, *optional*): Reward for "no answer" in `/get_reward` and `/classify`, whose clients
            cannot read `null`. By default such a request is answered by 422.
    """
    service = _Service(scorer, limits)

    @asynccontextmanager
    async def working(_: FastAPI) -> AsyncIterator[None]:
        work = asyncio.create_task(service.batcher.work())
        yield
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    app = FastAPI(title="hf_reward_ext", lifespan=working, docs_url=None, redoc_url=None, openapi_url=None)
    _add_errors(app)
    _add_paths(app, service, missing_reward)

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        path = request.url.path if request.url.path in _PATHS else "other"
        service.answers.labels(path, response.status_code).inc()
        return response

    return GuardedBody(app, limits, api_key)


_PATHS = ("/v1/rewards", "/v1/score", "/get_reward", "/classify", "/health", "/metrics")


def _add_paths(app: FastAPI, service: _Service, missing_reward: float | None) -> None:
    name = service.scorer.__name__

    def listed(kind: str, field: str, values: list) -> dict[str, Any]:
        data = [{"index": index, "object": kind, field: value} for index, value in enumerate(values)]
        return {"object": "list", "model": name, "data": data}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": name, "waiting_rows": service.batcher.num_waiting}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/v1/rewards")
    async def rewards(request: RewardsRequest) -> dict[str, Any]:
        return listed("reward", "reward", await service.score(request))

    @app.post("/v1/score")
    async def score(request: ScoreRequest) -> dict[str, Any]:
        return listed("score", "score", await service.score(request))

    @app.post("/get_reward")
    async def get_reward(request: QueryRequest) -> dict[str, Any]:
        values = _filled(await service.score(request), missing_reward)
        return {"rewards": values, "scores": values, "extra_logs": {}}

    @app.post("/classify")
    async def classify(request: ClassifyRequest) -> dict[str, Any]:
        values = _filled(await service.score(request), missing_reward)
        answer = listed("classification", "probs", [[value] for value in values])
        return {**answer, "data": [{**one, "label": "reward", "num_classes": 1} for one in answer["data"]]}


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(_RefusedError)
    async def refused(_: Request, error: _RefusedError) -> JSONResponse:
        return JSONResponse(describe_error(error.status, str(error)), error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # A text may also be messages, so that a wrong value has several errors: the deepest one names its place.
        found = max(error.errors(), key=lambda one: len(one["loc"]))
        parts = [str(part) for part in found["loc"][1:]]
        place = ".".join(part for part in parts if part.isidentifier() and part != "str" or part.isdigit())
        return JSONResponse(describe_error(422, f"{place or 'the request'}: {found['msg']}"), 422)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}. The paths are {', '.join(_PATHS)}."
        return JSONResponse(describe_error(error.status_code, message), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        _log.exception("The scorer failed", exc_info=error)
        return JSONResponse(describe_error(500, f"The scorer failed: {type(error).__name__}"), 500)


def _filled(rewards: Rewards, missing_reward: float | None) -> list[float]:
    filled = [missing_reward if reward is None else reward for reward in rewards]
    if None in filled:
        raise _RefusedError(
            422,
            f"The scorer has no answer for row {filled.index(None)}, which this request cannot express. Start the "
            "server with a `missing_reward`, or use /v1/rewards.",
        )
    return [float(value) for value in filled if value is not None]


def _length(text: Any) -> int:
    return len(text) if isinstance(text, str) else sum(len(str(message)) for message in text)
