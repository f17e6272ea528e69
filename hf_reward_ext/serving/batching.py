"""Micro-batches: rows of concurrent requests are scored together, in one thread."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from hf_reward_ext.base.scoring.rewards import Rewards
from hf_reward_ext.serving.limits import Limits

Score = Callable[[list, list, dict[str, list]], Rewards]


class BusyError(RuntimeError):
    """Error of a request that finds too many rows waiting."""


@dataclass
class _Job:
    """Rows of one request."""

    prompts: list
    completions: list
    columns: dict[str, list]
    future: asyncio.Future[Rewards] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class MicroBatcher:
    """
    Queue of requests whose rows are scored in common batches.

    Requests with the same columns are scored together. If that fails, each of them is scored alone, so that a wrong row
    fails its own request only.

    Args:
        score (`callable`): Function `(prompts, completions, columns) -> rewards`, called in one thread.
        limits ([`Limits`]): Size of a batch and of the queue.
    """

    def __init__(self, score: Score, limits: Limits):
        self._score = score
        self._limits = limits
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rewards")
        self.num_waiting = 0
        """Number of rows that wait or are being scored."""

    async def score(self, prompts: list, completions: list, columns: dict[str, list]) -> Rewards:
        """
        Return the rewards of a request once its batch is scored.

        Raises:
            BusyError: If too many rows wait.
            Exception: What the scorer raises for these rows.
        """
        if self.num_waiting + len(prompts) > self._limits.max_waiting_rows:
            raise BusyError(
                f"{self.num_waiting} rows wait, and at most {self._limits.max_waiting_rows} may. Try later."
            )
        job = _Job(prompts, completions, columns)
        self._waiting.append(job)
        self.num_waiting += len(prompts)
        self._arrived.set()
        try:
            return await job.future
        finally:
            self.num_waiting -= len(prompts)

    async def work(self) -> None:
        """Score batches until this task is cancelled; the batch that is being scored is finished."""
        try:
            while True:
                await self._arrived.wait()
                if sum(len(job.prompts) for job in self._waiting) < self._limits.max_batch_rows:
                    await asyncio.sleep(self._limits.max_wait_seconds)
                await self._score_batch(self._take())
                if not self._waiting:
                    self._arrived.clear()
        finally:
            self._thread.shutdown(wait=False)

    def _take(self) -> list[_Job]:
        """Remove jobs from the queue until the batch is full; a client that has gone is left out."""
        taken: list[_Job] = []
        rows = 0
        while self._waiting and (not taken or rows + len(self._waiting[0].prompts) <= self._limits.max_batch_rows):
            job = self._waiting.popleft()
            if not job.future.done():
                taken.append(job)
                rows += len(job.prompts)
        return taken

    async def _score_batch(self, jobs: list[_Job]) -> None:
        groups: dict[tuple[str, ...], list[_Job]] = {}
        for job in jobs:
            groups.setdefault(tuple(sorted(job.columns)), []).append(job)
        for group in groups.values():
            await self._score_together(group)

    async def _score_together(self, jobs: list[_Job]) -> None:
        columns = {name: [value for job in jobs for value in job.columns[name]] for name in jobs[0].columns}
        prompts = [prompt for job in jobs for prompt in job.prompts]
        completions = [completion for job in jobs for completion in job.completions]
        loop = asyncio.get_running_loop()
        try:
            rewards = await loop.run_in_executor(self._thread, self._score, prompts, completions, columns)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    await self._score_together([job])
            elif not jobs[0].future.done():
                jobs[0].future.set_exception(error)
            return
        start = 0
        for job in jobs:
            end = start + len(job.prompts)
            if not job.future.done():
                job.future.set_result(rewards[start:end])
            start = end


def as_score(scorer: Any) -> Score:
    """
    Return the function of a [`Scorer`] for [`MicroBatcher`], which raises `Exception`s only.

    NaN is no answer, as in TRL's trainers.
    """

    def score(prompts: list, completions: list, columns: dict[str, list]) -> Rewards:
        try:
            return scorer.score(prompts, completions, columns, nan_is_missing=True)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            # An exit would end the server; a future cannot hold `StopIteration`, and its request would wait forever.
            raise RuntimeError(f"The scorer raised {type(error).__name__}.") from error

    return score
