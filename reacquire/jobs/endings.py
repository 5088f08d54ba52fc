"""How a worker or a courier lets go of a job: commit, count, log, forget, and delete the bytes that nobody needs.

Every commit carries the claim; one with a stale token changes nothing and the files of that run are deleted, so a job
never has two results. A commit that can't reach Redis is tried again until it does, or the process stops.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import obstore.exceptions
import redis
import structlog

from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.ends import NOBODY, EndWitness
from reacquire.jobs.leases import Leases
from reacquire.jobs.logs import describe
from reacquire.jobs.record import Artifact, Claim, Delivery, Failure
from reacquire.jobs.states import FINISHED, WITH_RESULT, Stage, State
from reacquire.jobs.store import JobStore

log = structlog.get_logger("reacquire.jobs")

OUTAGES = (redis.RedisError, obstore.exceptions.BaseError)  # the lease runs out and the job is tried again
CUT_OFF = (redis.ConnectionError, redis.TimeoutError)
COMMIT_AGAIN_S = 0.25


@dataclass(frozen=True)
class Endings:
    """The ways out of a claim; all of them raise one of ``OUTAGES`` when store or storage can't be reached.

    ``count`` is told operation, outcome and error code of every job that is let go of; ``witness`` puts ends on record.
    """

    store: JobStore
    blobs: BlobStore
    leases: Leases
    republish: Callable[[Iterable[str]], None]
    count: Callable[[str, str, str | None], None]
    witness: EndWitness = NOBODY

    def succeed(
        self,
        claim: Claim,
        operation: str,
        artifacts: Sequence[Artifact],
        *,
        delivery: Delivery | None = None,
        children: Sequence[str] = (),
    ) -> None:
        """Commit a result; ``partial`` when the delivery lacks instances."""
        commit = partial(self.store.succeed, claim, artifacts, delivery=delivery, children=children)
        self._end(claim, operation, self._commit(commit))

    def advance(
        self,
        claim: Claim,
        operation: str,
        stage: Stage,
        *,
        inputs: Sequence[str] | None = None,
        artifacts: Sequence[Artifact] = (),
    ) -> None:
        """Commit a stage; the job now waits for the next one."""
        state = self._commit(partial(self.store.advance, claim, stage, inputs=inputs, artifacts=artifacts))
        self._end(claim, operation, state, stage=stage)
        if state == "queued" and stage == "compute":
            self._wake(claim)

    def fail(self, claim: Claim, failure: Failure, operation: str, *, delivery: Delivery | None = None) -> None:
        """Commit an error."""
        commit = partial(self.store.fail, claim, failure, delivery=delivery)
        self._end(claim, operation, self._commit(commit), code=failure.code)

    def cancel(self, claim: Claim, operation: str) -> None:
        """Let go of a job that was cancelled."""
        self._end(claim, operation, self._commit(partial(self.store.acknowledge_cancel, claim)))

    def lose(self, claim: Claim, operation: str) -> None:
        """Somebody else holds it by now, or it was deleted."""
        self._end(claim, operation, None)

    def give_back(self, claim: Claim, operation: str, *, delay_s: float = 0.0, wake: bool = True) -> None:
        """Another one may take it, at once or (a courier's job) after a while; the attempt does not count."""
        state = self._commit(partial(self.store.release, claim, delay_s=delay_s))
        self._end(claim, operation, state)
        if state == "queued" and wake:
            self._wake(claim)

    def _commit(self, commit: Callable[[], State | None]) -> State | None:
        """What became of the job. The pulse renews the lease meanwhile, and ends the process when it takes too long.

        A process that stops tries once, and after a failure no other claim: each could wait for a time-out.
        """
        while not self.leases.cut_off.is_set():
            try:
                return commit()
            except CUT_OFF:
                if self.leases.draining.is_set():
                    self.leases.cut_off.set()
                    raise
            time.sleep(COMMIT_AGAIN_S)  # not draining.wait(): a signal handler in this thread sets it
        raise redis.ConnectionError("cut off while stopping")

    def _wake(self, claim: Claim) -> None:
        try:
            self.republish([claim.id])
        except Exception as error:  # any broker trouble: the reconciler sends it again
            log.warning("message not sent", job=claim.id, error=describe(error))

    def _end(
        self, claim: Claim, operation: str, state: State | None, *, code: str | None = None, stage: Stage | None = None
    ) -> None:
        self.leases.remove(claim)
        outcome = state or "lost"
        self.count(operation, outcome, code if state == "failed" else None)
        log.info("job left", job=claim.id, operation=operation, outcome=outcome, code=code, next=stage)
        if state in FINISHED:
            self.witness.ended(self.store, claim.id)
        try:
            self._clean(claim, state, stage)
        except (*OUTAGES, OSError) as error:  # expiry deletes them later
            log.warning("files not deleted", job=claim.id, error=describe(error))

    def _clean(self, claim: Claim, state: State | None, stage: Stage | None) -> None:
        """Delete what ``state`` makes useless. What ``deliver`` could not send stays within reach."""
        if state == "cancelled":
            self.blobs.drop_job(claim.id)
        elif state in FINISHED or (state and stage == "deliver"):
            self.blobs.drop_inputs(claim.id)
        elif state is None or stage is None:  # this run came to nothing
            self.blobs.drop_fetched(claim)
        if state not in WITH_RESULT and (state is None or stage is None):
            self.blobs.drop_run(claim)
