"""Puts right what a crash left behind: leases that ran out, messages that died with a worker, results past their time.

Any worker or courier may run it and one does per period; each step is safe to repeat. A courier's jobs need no message.
"""

from dataclasses import dataclass

import structlog

from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.broker import URGENT, Publisher
from reacquire.jobs.ends import NOBODY, EndWitness
from reacquire.jobs.logs import describe
from reacquire.jobs.presence import Presence
from reacquire.jobs.states import FINISHED
from reacquire.jobs.store import JobStore, Reaped

log = structlog.get_logger("reacquire.jobs")


@dataclass(frozen=True)
class Reconciler:
    """One pass over the job store on behalf of all workers and couriers."""

    store: JobStore
    presence: Presence
    publisher: Publisher
    blobs: BlobStore
    witness: EndWitness = NOBODY

    def tick(self, name: str, period_s: float) -> bool:
        """Reconcile if it is this worker's turn; whether it was."""
        if not self.presence.take_turn(name, period_s):
            return False
        self._take_over()
        self._resend()
        for job_id in self.store.expire():
            self.witness.ended(self.store, job_id)
        self._drop()
        return True

    def abandon(self, name: str) -> None:
        """``name`` stops, with nothing in hand: what the store still counts as its work goes to others at once."""
        if self.store.abandon(name):
            self._take_over()

    def _take_over(self) -> None:
        """Jobs whose worker fell silent go back to the front of the queue, or end when they have killed too many."""
        for job in self.store.reap():
            log.warning("lease ran out", job=job.id, stage=job.stage, now=job.state)
            if job.state in FINISHED:
                self.witness.ended(self.store, job.id)
            try:
                self._follow_up(job)
            except Exception as error:  # no message: it is sent again; no deletion: expiry sees to it
                log.warning("job taken over in part", job=job.id, error=describe(error))

    def _follow_up(self, job: Reaped) -> None:
        if job.must_be_sent:
            self.publisher.publish([job.id], priority=URGENT)
        elif job.state == "failed" and job.stage == "deliver":  # what could not be delivered stays within reach
            self.blobs.drop_inputs(job.id)
        elif job.state != "queued":
            self.blobs.drop_job(job.id)

    def _drop(self) -> None:
        """Delete the bytes of jobs that are no more; what can't be deleted now is tried again at the next pass."""
        for job_id in self.store.to_drop():
            self.blobs.drop_job(job_id)
            self.store.dropped(job_id)

    def _resend(self) -> None:
        """Messages can die with the worker that had prefetched them; a second copy of a message does no harm."""
        if self.presence.bury():
            self.publisher.publish(self.store.stale(0), priority=URGENT)
        elif self.publisher.waiting() == 0:
            self.publisher.publish(self.store.stale(self.store.config.republish_s))
