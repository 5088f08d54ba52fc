"""The thread beside the work: heartbeat, leases, ready file, reconciler, and the decision to give up.

A worker's solo pool computes in the consumer's own thread, so nothing else in the process could renew a lease.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
import structlog

from reacquire.jobs.config import JobsConfig
from reacquire.jobs.leases import Leases
from reacquire.jobs.logs import describe
from reacquire.jobs.presence import Presence, WorkerInfo
from reacquire.jobs.reconciler import Reconciler
from reacquire.jobs.states import Stage

log = structlog.get_logger("reacquire.jobs")

EXIT_STUCK = 75  # EX_TEMPFAIL of sysexits: whoever supervises starts a new one


class Pulse(threading.Thread):
    """Beats until ``stop``; every step of a beat is tried even when the one before it failed.

    ``measure`` is called at each beat, for gauges; ``report`` adds to what a heartbeat says, and while ``ready`` says
    no the ready file is left alone. A process of which ``stage`` is the work and which hears of jobs by messages ends
    itself when jobs wait and none arrives; a courier looks for itself, so it has no such stage.
    """

    def __init__(
        self,
        config: JobsConfig,
        info: WorkerInfo,
        *,
        presence: Presence,
        leases: Leases,
        reconciler: Reconciler,
        measure: Callable[[], None],
        stage: Stage | None = None,
        ready_file: Path | None = None,
        ready: Callable[[], bool] = lambda: True,
        report: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__(name="pulse", daemon=True)
        self._config, self._info = config, info
        self._presence, self._leases, self._reconciler = presence, leases, reconciler
        self._measure, self._stage, self._ready_file = measure, stage, ready_file
        self._ready, self._report = ready, report
        self._stop_event = threading.Event()
        self._waiting_since: float | None = None
        self.period_s = min(config.lease_s / 4, config.worker_stale_s / 4, 5.0)

    def run(self) -> None:
        while not self._stop_event.is_set():
            self.beat()
            self._stop_event.wait(self.period_s)

    def beat(self) -> None:
        """One heartbeat."""
        for step in (self._renew, self._announce, self._reconcile, self._touch_ready_file, self._measure):
            self._try(step)
        if self._leases.oldest_s() > self._config.job_timeout_s:
            self._give_up("a job exceeded its time", self._leases.oldest_s())
        if self._starved():
            self._give_up("jobs wait and none of them arrives", self._leases.hungry_s())

    def _starved(self) -> bool:
        """Whether jobs have waited for long beside this idle worker: its consumer must be dead (celery/celery#8030).

        The reconciler has sent their messages again meanwhile, so a worker that consumes would have had one.
        """
        patience_s = 3 * self._config.republish_s
        if self._stage is None or self._depth(self._stage) == 0:
            self._waiting_since = None
            return False
        self._waiting_since = self._waiting_since or time.monotonic()
        return min(time.monotonic() - self._waiting_since, self._leases.hungry_s()) > patience_s

    def _depth(self, stage: Stage) -> int:
        try:
            return self._reconciler.store.depth(stage)
        except redis.RedisError:
            return 0

    @staticmethod
    def _give_up(reason: str, seconds: float) -> None:
        log.error("giving up this process", reason=reason, seconds=round(seconds))
        os._exit(EXIT_STUCK)  # the computing thread may never come back, so no orderly way out exists

    def stop(self) -> None:
        """Stop beating and say good-bye, so that nobody has to wait for silence; the work must have stopped before."""
        self._stop_event.set()
        self.join(timeout=5)
        if not self._leases.cut_off.is_set():
            self._try(lambda: self._reconciler.abandon(self._info.name))
            self._try(lambda: self._presence.leave(self._info.name))
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)

    def _renew(self) -> None:
        self._leases.renew()

    def _announce(self) -> None:
        self._presence.beat(replace(self._info, busy=len(self._leases.held), **self._report()))

    def _reconcile(self) -> None:
        self._reconciler.tick(self._info.name, self.period_s)

    def _touch_ready_file(self) -> None:
        if self._ready_file is not None and self._ready():
            self._ready_file.write_text(str(int(time.time())), encoding="ascii")

    @staticmethod
    def _try(step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # an outage of Redis or storage: the next beat tries again
            log.warning("heartbeat step failed", error=describe(error))
