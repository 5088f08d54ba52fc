"""The alerts: few, each about something that a person must do, each with a section of the same name in the runbook."""

from dataclasses import dataclass
from typing import Literal

from observability.query import any_of, increase_of_store, of_store, quantile, rate, series
from reacquire.jobs import metrics as names

RUNBOOK = "docs/operations.md"
GIB = 2**30
# codes (reacquire.errors) of jobs that failed through no fault of their input, and of those that the archive failed
OURS = any_of("code", "internal-error", "job-failed", "bundle-invalid", "model-unavailable", "not-ready", "overloaded")
PACS = any_of("code", "pacs-unreachable", "pacs-refused", "pacs-answer-invalid", "store-failed")


@dataclass(frozen=True)
class Alert:
    """``hold``: how long ``expr`` must be true. ``critical`` wakes someone up; ``warning`` waits for the morning."""

    name: str
    expr: str
    hold: str
    severity: Literal["critical", "warning"]
    summary: str

    @property
    def runbook(self) -> str:
        return f"{RUNBOOK}#{self.name.lower()}"


ALERTS = (
    Alert(
        "ReacquireApiOrRedisDown",
        f"absent({series(names.QUEUE_DEPTH)})",
        "2m",
        "critical",
        "No API pod reports the queue: the API is down, cannot reach Redis, or is not scraped",
    ),
    Alert(
        "ReacquireNoWorker",
        f"{of_store(names.WORKERS)} == 0 and {of_store(names.QUEUE_DEPTH)} > 0",
        "5m",
        "critical",
        "Jobs wait and no worker is alive",
    ),
    Alert(
        "ReacquireQueueStands",
        f"{of_store(names.QUEUE_DEPTH)} > 0 and {of_store(names.WORKERS)} > 0"
        f" and {of_store(names.JOBS_IN_PROGRESS)} == 0",
        "10m",
        "critical",
        "{{ $value }} jobs wait, workers are alive, and nothing is at work",
    ),
    Alert(
        "ReacquireJobsRefused",
        f"{rate(names.REJECTED, any_of('code', 'overloaded'))} > 0",
        "10m",
        "warning",
        "The queue is full: new jobs are refused with 503",
    ),
    Alert(
        "ReacquireNotReady",
        f"{rate(names.REJECTED, any_of('code', 'not-ready'), window='2m')} > 0"
        # a pod that says so to its probe gets no requests to refuse
        f" or {rate(names.HTTP_REQUESTS, any_of('route', '/readyz'), any_of('status', '503'), window='2m')} > 0",
        "5m",
        "critical",
        "The API answers 503: Redis, the blob store, the identity provider or the audit trail is away or full",
    ),
    Alert(
        "ReacquireLongWait",
        f"{quantile(0.9, names.QUEUE_WAIT)} > 300",
        "15m",
        "warning",
        "One job in ten waits longer than {{ $value | humanizeDuration }} for a worker",
    ),
    Alert(
        "ReacquireJobsFail",
        f"{increase_of_store(names.JOB_FAILURES, OURS, window='30m')} > 3",
        "0m",
        "critical",
        "{{ $value | humanize }} jobs failed in half an hour through no fault of their input",
    ),
    Alert(
        "ReacquireNoCourier",
        f"{of_store(names.COURIERS)} == 0 and {of_store(names.COURIER_QUEUE_DEPTH)} > 0",
        "5m",
        "critical",
        "Jobs wait for a PACS and no courier is alive",
    ),
    Alert(
        "ReacquirePacsOutOfReach",
        f"{rate(names.PUT_OFF)} > 0",
        "15m",
        "warning",
        "A PACS has been out of reach for a quarter of an hour; its jobs are put off and tried again",
    ),
    Alert(
        "ReacquirePacsFails",
        f"{increase_of_store(names.JOB_FAILURES, PACS, window='30m')} > 3",
        "0m",
        "critical",
        "{{ $value | humanize }} jobs failed in half an hour because the PACS did not answer, or refused",
    ),
    Alert(
        "ReacquireTrailUnwritten",
        f"max({series(names.UNWRITTEN)}) > 0",
        "5m",
        "critical",
        "{{ $value }} ends of jobs are not in the audit trail yet: it cannot be written",
    ),
    Alert(
        "ReacquireOutOfMemory",
        f"sum(increase({series(names.OUT_OF_MEMORY)}[1h])) > 3",
        "0m",
        "warning",
        "{{ $value | humanize }} batches did not fit into the device's memory in an hour",
    ),
    Alert(
        "ReacquireServerErrors",
        f"{rate(names.HTTP_REQUESTS, any_of('status', '500'))} / {rate(names.HTTP_REQUESTS)} > 0.02",
        "10m",
        "critical",
        "{{ $value | humanizePercentage }} of the requests are answered with a server error",
    ),
    Alert(
        "ReacquireBundlesDiffer",
        f"count(count by (model, version) ({series(names.MODEL_ACTIVE)} == 1)) > 1",
        "30m",
        "warning",
        "Workers serve {{ $value }} different bundles: results depend on who takes the job",
    ),
    Alert(
        "ReacquireScpDiskLow",
        f"min({series(names.SCP_FREE)}) < {2 * GIB}",
        "5m",
        "critical",
        "The spool of the C-STORE receiver has {{ $value | humanize1024 }}B left; it will soon refuse",
    ),
    Alert(
        "ReacquireScpQuarantine",
        f"max({series(names.SCP_QUARANTINED)}) > 0",
        "15m",
        "warning",
        "{{ $value }} received objects cannot be used and lie in quarantine",
    ),
)
