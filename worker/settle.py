"""The last step of a job on the networks: from their raw answer to artifacts, and to one of the ``Endings``.

Artifacts are written under the token of the claim before the commit. A worker that is killed between the two leaves
files behind; the next run deletes them.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

import structlog

from reacquire.errors import ReacquireError
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.endings import Endings
from reacquire.jobs.logs import describe
from reacquire.jobs.record import Claim, Failure
from worker.metrics import WorkerMetrics

log = structlog.get_logger("worker")

DOCUMENT = "result.json"


@dataclass(frozen=True)
class Settler:
    """Commits what became of a claimed job."""

    pipeline: Any
    blobs: BlobStore
    endings: Endings
    metrics: WorkerMetrics

    def settle(self, claim: Claim, operation: str, work: Any, raw: Any, *, delivers: bool = False) -> None:
        """Commit the networks' answer for one item; raises only when store or storage can't be reached."""
        verdict = self.endings.leases.verdict(claim)
        if verdict == "lost":
            self.endings.lose(claim, operation)
        elif verdict == "cancel":
            self.endings.cancel(claim, operation)
        elif isinstance(raw, ReacquireError):
            self.endings.fail(claim, Failure.of(raw), operation)
        elif raw is None and self.endings.leases.draining.is_set():
            self.endings.give_back(claim, operation)
        elif raw is None:  # a pipeline that drops what nobody asked it to drop
            self.endings.fail(claim, Failure("internal-error", "the networks gave no answer"), operation)
        else:
            self._succeed(claim, operation, work, raw, delivers=delivers)

    def _succeed(self, claim: Claim, operation: str, work: Any, raw: Any, *, delivers: bool) -> None:
        started = time.monotonic()
        try:
            outcome = self.pipeline.finish(work, raw)
            document = json.dumps(outcome.document, allow_nan=False).encode()
        except ReacquireError as error:
            self.endings.fail(claim, Failure.of(error), operation)
            return
        except Exception as error:
            log.error("job failed unexpectedly", job=claim.id, error=describe(error))
            self.endings.fail(claim, Failure("internal-error", "the result could not be written"), operation)
            return
        self.blobs.drop_earlier_runs(claim)
        artifacts = self.blobs.put_artifacts(claim, {**outcome.artifacts, DOCUMENT: document})
        self.metrics.finish.labels(operation).observe(time.monotonic() - started)
        if delivers:
            self.endings.advance(claim, operation, "deliver", artifacts=artifacts)
        else:
            self.endings.succeed(claim, operation, artifacts)
