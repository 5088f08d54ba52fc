"""The courier: takes the stages of PACS jobs that wait, runs several at once, and ends each under its claim.

No message wakes it: it asks the store for jobs whose time has come, so none can be lost and a job that was put off
comes back by itself. A PACS or a blob store that is out of reach never costs a job: the stage is put off, longer each
time, until ``pacs_patience_s`` are over.
"""

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import obstore.exceptions
import redis
import structlog

from gateway.deliver import deliver, document
from gateway.fetch import fetch
from gateway.metrics import CourierMetrics
from gateway.routing import route_reference
from gateway.settings import GatewaySettings
from gateway.stages import Grip, LetGo
from reacquire.dicom import Limits
from reacquire.errors import JobError, OverloadedError, PacsError, PacsOutage, ReacquireError
from reacquire.jobs.endings import OUTAGES, Endings
from reacquire.jobs.ends import NOBODY, EndWitness
from reacquire.jobs.intake import Intake
from reacquire.jobs.leases import Leases
from reacquire.jobs.logs import describe
from reacquire.jobs.record import Claim, Delivery, Failure, JobRecord, RouteSpec
from reacquire.jobs.tracing import OFF, Attribute, Tracing
from reacquire.pacs.config import PacsConfig
from reacquire.pacs.dicomweb import DicomwebClient
from reacquire.pacs.reference import SeriesReference

log = structlog.get_logger("gateway")

FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 300.0
RESULT = "result.json"


@dataclass(frozen=True)
class Courier:
    """Runs the stages ``fetch`` and ``deliver``; ``connect`` opens a conversation with a configured site."""

    name: str
    settings: GatewaySettings
    config: PacsConfig
    intake: Intake
    leases: Leases
    metrics: CourierMetrics
    connect: Callable[[str], DicomwebClient]
    sleep: Callable[[float], None] = time.sleep
    witness: EndWitness = NOBODY
    tracing: Tracing = OFF

    @property
    def endings(self) -> Endings:
        store, wake = self.intake.store, self.intake.publisher.publish
        return Endings(store, self.intake.blobs, self.leases, wake, self.metrics.count, self.witness)

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping``; then jobs in hand are given back between two instances."""
        active: set[Future[None]] = set()
        with ThreadPoolExecutor(self.settings.courier_parallel, thread_name_prefix="stage") as pool:
            while not stopping.is_set():
                active = {future for future in active if not future.done()}
                claims = self._take(self.settings.courier_parallel - len(active))
                active |= {pool.submit(self.handle, claim) for claim in claims}
                if not claims:
                    stopping.wait(self.settings.poll_s)
            self.leases.draining.set()

    def _take(self, most: int) -> list[Claim]:
        if most <= 0:
            return []
        try:
            claims = self.intake.store.take(self.name, most)
        except redis.RedisError as error:
            log.warning("no jobs to be had", error=describe(error))
            self.sleep(1.0)
            return []
        for claim in claims:
            self.leases.add(claim)
        return claims

    def handle(self, claim: Claim) -> None:
        """Run the stage of a claimed job and end it; never raises."""
        started, record = time.monotonic(), None
        try:
            record = self.intake.store.get(claim.id)
            about: dict[Attribute, str | int] = {"reacquire.job.id": claim.id, "reacquire.operation": record.operation}
            name = "route" if isinstance(record.spec, RouteSpec) else record.stage
            with self.tracing.span(name, parent=record.trace, kind="consumer", attributes=about):
                self._run(record, claim)
        except OUTAGES as error:
            log.warning("job left to its lease", job=claim.id, error=describe(error))
            self.leases.remove(claim)
        except JobError:  # deleted since it was claimed
            self.leases.remove(claim)
        finally:
            if record is not None:
                self.metrics.stage.labels(record.stage).observe(time.monotonic() - started)

    def _run(self, record: JobRecord, claim: Claim) -> None:
        operation = record.operation
        grip = Grip(claim, self.leases)
        try:
            if record.stage == "deliver":
                self._deliver(record, grip)
            elif isinstance(record.spec, RouteSpec):
                self._route(record, grip)
            else:
                self._fetch(record, grip)
        except LetGo:
            self._let_go(claim, operation)
        except (PacsOutage, OverloadedError) as error:
            self._put_off(record, claim, error)
        except ReacquireError as error:
            self.endings.fail(claim, Failure.of(error), operation)
        except obstore.exceptions.BaseError as error:
            log.warning("storage out of reach, or full", job=claim.id, error=describe(error))
            self._put_off(record, claim, OverloadedError("the files of this job could not be stored or read"))
        except redis.RedisError:
            raise
        except Exception as error:
            log.error("job failed unexpectedly", job=claim.id, error=describe(error))
            detail = "the job failed for a reason that was not foreseen; it has been logged"
            self.endings.fail(claim, Failure("internal-error", detail), operation)

    def _fetch(self, record: JobRecord, grip: Grip) -> None:
        reference = self._reference(record)
        with self.connect(reference.site) as pacs:
            keys = fetch(
                pacs.fetch(reference),
                reference,
                self.intake.blobs,
                grip,
                allow_synthetic=record.operation_spec.options.allow_synthetic,
                limits=self.intake.limits,
            )
        self.metrics.instances.labels("pulled").inc(len(keys))
        self.endings.advance(grip.claim, record.operation, "compute", inputs=keys)

    def _route(self, record: JobRecord, grip: Grip) -> None:
        reference = self._reference(record)
        with self.connect(reference.site) as pacs:
            metadata = pacs.series_metadata(reference)
        grip.go_on()
        told = self.config.webhook is not None
        intake = replace(self.intake, trace=self.tracing.here())
        routed = route_reference(self.config.rules, metadata, reference, intake, notify=told)
        children = [submission.job_id for submission in routed.submissions]
        result = {"operation": "route", "outcome": routed.outcome, "reason": routed.reason, "jobs": children}
        artifacts = self.intake.blobs.put_artifacts(grip.claim, {RESULT: json.dumps(result).encode()})
        self.endings.succeed(grip.claim, record.operation, artifacts, children=children)

    def _deliver(self, record: JobRecord, grip: Grip) -> None:
        blobs = self.intake.blobs
        with self.connect(record.deliver_to) as pacs:
            delivery = deliver(pacs, record.deliver_to, record.artifacts, blobs, grip, sleep=self.sleep)
        self.metrics.instances.labels("stored").inc(delivery.stored)
        self.metrics.instances.labels("not-taken").inc(len(delivery.failed))
        if delivery.stored:
            self.witness.delivered(record)
        if delivery.failed and not delivery.stored:
            self.endings.fail(grip.claim, _not_stored(delivery), record.operation, delivery=delivery)
            return
        written = blobs.put_artifacts(grip.claim, document(delivery))
        self.endings.succeed(grip.claim, record.operation, [*record.artifacts, *written], delivery=delivery)

    def _reference(self, record: JobRecord) -> SeriesReference:
        return SeriesReference.of_bytes(self.intake.blobs.get(record.inputs[0]))

    def _let_go(self, claim: Claim, operation: str) -> None:
        verdict = self.leases.verdict(claim)
        if verdict == "cancel":
            self.endings.cancel(claim, operation)
        elif verdict == "lost":
            self.endings.lose(claim, operation)
        else:
            self.endings.give_back(claim, operation, wake=False)

    def _put_off(self, record: JobRecord, claim: Claim, error: PacsOutage | OverloadedError) -> None:
        """Try again later; a PACS that stays away for longer than our patience fails the job."""
        waited_s = (record.claimed_ms - record.trouble_ms) / 1000 if record.trouble_ms else 0.0
        left_s = self.settings.pacs_patience_s - waited_s
        if left_s <= 0:
            self.endings.fail(claim, Failure.of(error), record.operation)
            return
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(record.postponed, 20)) * random.uniform(0.75, 1.0)
        asked_s = (error.wait_s or 0.0) if isinstance(error, PacsOutage) else 0.0
        delay_s = min(max(delay_s, asked_s), left_s + 0.001)  # the last try comes when patience ends
        self.metrics.put_off.labels(record.stage).inc()
        log.warning("stage put off", job=claim.id, stage=record.stage, code=error.code, seconds=round(delay_s, 1))
        self.endings.give_back(claim, record.operation, delay_s=delay_s, wake=False)


def _not_stored(delivery: Delivery) -> Failure:
    reasons = sorted({f"{refusal.reason:04X}H" for refusal in delivery.failed if refusal.reason is not None})
    said = f" (FailureReason {', '.join(reasons)})" if reasons else ""
    return Failure("store-failed", f"the PACS took none of {delivery.sent} instances{said}")


def connector(
    config: PacsConfig, secret: Callable[[str], str | None], limits: Limits, leases: Leases
) -> Callable[[str], DicomwebClient]:
    """Opens conversations with the sites of ``config``, and with nobody else.

    What is returned raises ``PacsError`` (``pacs-not-allowed``) for a site that is not configured here.
    """

    def pause(seconds: float) -> None:
        """Between two tries; a process that stops does not wait."""
        if leases.draining.wait(seconds):
            raise LetGo

    def connect(site: str) -> DicomwebClient:
        if site not in config.sites:
            raise PacsError("this site is not in the courier's configuration", code="pacs-not-allowed", where="/site")
        try:
            found = secret(site)
        except LookupError:
            raise PacsError("the secret of this site cannot be read by the courier", code="pacs-refused") from None
        return DicomwebClient(config.sites[site], found, limits=limits, sleep=pause)

    return connect
