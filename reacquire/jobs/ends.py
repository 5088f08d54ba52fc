"""The ends of jobs on record in the audit trail, written by whichever process ends them.

The commit comes first and the line after it: a line must not tell of an end that did not happen. A line that cannot be
written waits in memory and is tried again at each heartbeat; only the death of the process in that time loses it.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

import redis
import structlog

from reacquire.errors import JobError
from reacquire.jobs.config import JobsConfig
from reacquire.jobs.logs import describe
from reacquire.jobs.record import JobRecord
from reacquire.jobs.store import JobStore
from reacquire.trail import Event, Trail

log = structlog.get_logger("reacquire.jobs")

MOST_WAITING = 10_000  # lines of about 300 bytes


def open_trail(config: JobsConfig, process: str) -> Trail | None:
    """The trail of a process, where the configuration asks for one.

    Raises
    ------
    OSError
        When its folder cannot be made.
    """
    if config.trail_dir is None:
        return None
    return Trail(config.trail_dir, process, retention_days=config.trail_retention_days)


@dataclass(frozen=True)
class EndWitness:
    """Puts on record what became of jobs; ``trail`` None keeps none. Safe to share between threads."""

    trail: Trail | None
    who: str
    _waiting: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def waiting(self) -> int:
        """Events that could not be written yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Put the start of this process on record.

        Raises
        ------
        OSError
            When it can't be written: whoever cannot keep the trail must not start.
        """
        if self.trail is not None:
            self.trail.record(Event(action="start", who=self._name))

    def ended(self, store: JobStore, job_id: str) -> None:
        """A job has ended; what its record says of it is put on record."""
        if self.trail is None:
            return
        try:
            event = end_event(store.get(job_id), self._name)
        except JobError:  # deleted, which is on record by itself
            return
        except redis.RedisError as error:
            log.warning("end on record without its details", job=job_id, error=describe(error))
            event = Event(action="end", who=self._name, job=job_id)
        self.record(event)

    def delivered(self, record: JobRecord) -> None:
        """Results of a job went to a PACS."""
        if self.trail is not None:
            event = Event(action="store", who=self._name, job=record.id, operation=record.operation)
            self.record(event.model_copy(update={"model": record.model_sha256 or None}))

    def record(self, event: Event) -> None:
        """Write an event now, or as soon as that can be done; what waits is tried again by ``flush``."""
        if self.trail is None:
            return
        with self._lock:
            self._waiting.append(event)
        self.flush()

    def flush(self) -> None:
        """Try again to write what waits."""
        with self._lock:
            while self.trail is not None and self._waiting:
                try:
                    self.trail.record(self._waiting[0])
                except OSError as error:
                    log.error("the audit trail cannot be written", waiting=len(self._waiting), error=describe(error))
                    return
                self._waiting.popleft()

    def close(self) -> None:
        """End the trail of this process in order."""
        self.flush()
        if self.trail is None:
            return
        try:
            self.trail.close()
        except OSError as error:  # it shows as a file that was not ended; the rest of the process still ends in order
            log.error("the audit trail cannot be ended", error=describe(error))

    @property
    def _name(self) -> str:
        return self.who[-64:]


NOBODY = EndWitness(None, "nobody")  # for processes and tests that keep no trail


def end_event(record: JobRecord, who: str) -> Event:
    """The event of a job's end: state, code of the error, and the model that ran, if one did."""
    return Event(
        action="end",
        who=who,
        job=record.id,
        operation=record.operation,
        model=record.model_sha256 or None,
        outcome=record.state,
        code=record.failure.code if record.failure else None,
    )
