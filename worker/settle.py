"""The last step of a job: its artifacts, its commit, and the removal of what is no longer needed.

Artifacts are written under the token of the claim before the commit; a commit with a stale token changes nothing and
its files are deleted, so a job never has two results.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import obstore.exceptions
import redis
import structlog

from reacquire.errors import ReacquireError
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.logs import describe
from reacquire.jobs.record import Claim, Failure
from reacquire.jobs.states import State
from reacquire.jobs.store import JobStore
from worker.leases import Leases
from worker.metrics import WorkerMetrics

log = structlog.get_logger("worker")

DOCUMENT = "result.json"


@dataclass(frozen=True)
class Settler:
    """Commits what became of a claimed job."""

    pipeline: Any
    store: JobStore
    blobs: BlobStore
    leases: Leases
    metrics: WorkerMetrics
    republish: Callable[[Iterable[str]], None]

    def settle(self, claim: Claim, operation: str, work: Any, raw: Any) -> None:
        """Commit the networks' answer for one item; raises only when store or storage can't be reached."""
        verdict = self.leases.verdict(claim)
        if verdict == "lost":
            self._end(claim, operation, None)
        elif verdict == "cancel":
            self._end(claim, operation, self.store.acknowledge_cancel(claim))
        elif isinstance(raw, ReacquireError):
            self.fail(claim, Failure.of(raw), operation)
        elif raw is None and self.leases.draining.is_set():
            self._give_back(claim, operation)
        elif raw is None:  # a pipeline that drops what nobody asked it to drop
            self.fail(claim, Failure("internal-error", "the networks gave no answer"), operation)
        else:
            self._succeed(claim, operation, work, raw)

    def fail(self, claim: Claim, failure: Failure, operation: str = "unknown") -> None:
        """Commit an error."""
        state = self.store.fail(claim, failure)
        if state == "failed":
            self.metrics.failures.labels(failure.code).inc()
        self._end(claim, operation, state, code=failure.code)

    def _succeed(self, claim: Claim, operation: str, work: Any, raw: Any) -> None:
        started = time.monotonic()
        try:
            outcome = self.pipeline.finish(work, raw)
            document = json.dumps(outcome.document, allow_nan=False).encode()
        except ReacquireError as error:
            self.fail(claim, Failure.of(error), operation)
            return
        except Exception as error:
            log.error("job failed unexpectedly", job=claim.id, error=describe(error))
            self.fail(claim, Failure("internal-error", "the result could not be written"), operation)
            return
        artifacts = self.blobs.put_artifacts(claim, {**outcome.artifacts, DOCUMENT: document})
        self.metrics.finish.labels(operation).observe(time.monotonic() - started)
        self._end(claim, operation, self.store.succeed(claim, artifacts))

    def _give_back(self, claim: Claim, operation: str) -> None:
        """Dropped because the worker drains: another one may take it at once."""
        state = self.store.release(claim)
        self._end(claim, operation, state)
        if state == "queued":
            try:
                self.republish([claim.id])
            except Exception as error:  # any broker trouble: the reconciler sends it again
                log.warning("message not handed back", job=claim.id, error=describe(error))

    def _end(self, claim: Claim, operation: str, state: State | None, *, code: str | None = None) -> None:
        """Count, log, forget, and delete the bytes that nobody needs after ``state``."""
        self.leases.remove(claim)
        outcome = state or "lost"
        self.metrics.items.labels(operation, outcome).inc()
        log.info("job left", job=claim.id, operation=operation, outcome=outcome, code=code)
        try:
            if state in ("succeeded", "failed", "cancelled"):
                self.blobs.drop_inputs(claim.id)
            if state != "succeeded":
                self.blobs.drop_run(claim)
        except (obstore.exceptions.BaseError, OSError, redis.RedisError) as error:  # expiry deletes them later
            log.warning("files not deleted", job=claim.id, error=describe(error))
