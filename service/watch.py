"""Wakes those who wait for a job's end: one subscription to the store's channel for the whole process.

A lost message costs at most ``POLL_S``: waiters look at the record themselves from time to time. Those who follow a job
step by step look every ``FOLLOW_S``; a message per step would cost every API process more than it tells.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress

import redis.asyncio
import redis.exceptions
import structlog
from starlette.concurrency import run_in_threadpool

from reacquire.jobs.logs import describe
from reacquire.jobs.record import JobRecord
from reacquire.jobs.states import TERMINAL
from reacquire.jobs.store import JobStore

log = structlog.get_logger("service")

POLL_S = 1.0
FOLLOW_S = 0.2


class Watcher:
    """Turns the store's messages into events of this process."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe in the background."""
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """Unsubscribe."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                await self._subscription()
            except (redis.exceptions.RedisError, OSError) as error:
                log.warning("subscription lost", error=describe(error))
                await asyncio.sleep(POLL_S)

    async def _subscription(self) -> None:
        url = self._store.config.redis_url.get_secret_value()
        async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client, client.pubsub() as pubsub:
            await pubsub.subscribe(self._store.channel)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=10.0)
                for event in self._waiting.get(message["data"], ()) if message else ():
                    event.set()

    async def changes(
        self, job_id: str, *, timeout_s: float | None = None, only_end: bool = False
    ) -> AsyncIterator[JobRecord]:
        """The record now and after each change, until it is terminal or ``timeout_s`` is over.

        With ``only_end`` changes on the way may be left out.

        Raises
        ------
        JobError
            ``job-not-found``, also when the job is deleted meanwhile.
        """
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        version = -1
        try:
            while True:
                record = await run_in_threadpool(self._store.get, job_id)
                if record.version != version:
                    version = record.version
                    yield record
                left = deadline - time.monotonic()
                if record.state in TERMINAL or left <= 0:
                    return
                await _wait(event, min(POLL_S if only_end else FOLLOW_S, left))
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def until_done(self, job_id: str, timeout_s: float) -> JobRecord:
        """The last record seen within ``timeout_s``."""
        async for record in self.changes(job_id, timeout_s=timeout_s, only_end=True):
            last = record
        return last


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    event.clear()
