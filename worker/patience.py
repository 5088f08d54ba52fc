"""Jobs whose files can't be read or stored just now: left for later, and failed only when that lasts.

Their attempt does not count, for nobody died over them; a job that kills its workers never gets here and ends after its
attempts. An outage of Redis needs no patience: nobody can claim in it, so it costs a job one attempt, however long.
"""

from dataclasses import dataclass

import obstore.exceptions
import structlog

from reacquire.errors import JobError
from reacquire.jobs.endings import OUTAGES, Endings
from reacquire.jobs.logs import describe
from reacquire.jobs.record import Claim, Failure

log = structlog.get_logger("worker")

GIVEN_UP = Failure("not-ready", "the files of this job could not be read or stored; send it again")


@dataclass(frozen=True)
class Patience:
    """Gives jobs back until the storage has been away from them for ``limit_s``."""

    endings: Endings
    limit_s: float

    def put_off(self, claim: Claim, operation: str, error: obstore.exceptions.BaseError) -> None:
        """Let go of a job; it comes back when the reconciler misses its message. Never raises."""
        store, leases = self.endings.store, self.endings.leases
        try:
            record = store.get(claim.id)
            waited_s = (record.claimed_ms - record.trouble_ms) / 1000 if record.trouble_ms else 0.0
            if waited_s >= self.limit_s:
                self.endings.fail(claim, GIVEN_UP, operation)
                return
            log.warning("storage out of reach, or full", job=claim.id, waited=round(waited_s, 1), error=describe(error))
            self.endings.give_back(claim, operation, delay_s=store.config.republish_s, wake=False)
        except OUTAGES as trouble:
            log.warning("job left to its lease", job=claim.id, error=describe(trouble))
            leases.remove(claim)
        except JobError:  # deleted meanwhile
            leases.remove(claim)
