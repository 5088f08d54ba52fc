"""Every metric name in one place, as data: Prometheus base units, low-cardinality labels, never an id.

Service and worker build their own objects from this table; the library does not import a metrics client.
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "reacquire_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True)
class Metric:
    """A metric: its full name (counters without the ``_total`` the client adds), kind, help text and labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _metric(name: str, kind: Literal["counter", "gauge", "histogram"], text: str, *labels: str) -> Metric:
    buckets = () if kind != "histogram" else (SIZES if name.endswith("size") else SECONDS)
    return Metric(PREFIX + name, kind, text, labels, buckets)


# the service
HTTP_REQUESTS = _metric("http_requests", "counter", "HTTP requests answered", "method", "route", "status")
HTTP_DURATION = _metric("http_request_duration_seconds", "histogram", "Time to the end of the answer", "route")
JOBS_SUBMITTED = _metric("jobs_submitted", "counter", "Jobs accepted", "operation")
REJECTED = _metric("requests_rejected", "counter", "Requests answered with a problem", "code")
# read from the store
JOBS_FINISHED = _metric("jobs_finished", "counter", "Jobs that ended", "operation", "state", "model")
JOB_FAILURES = _metric("job_failures", "counter", "Jobs that failed", "code", "operation", "model")
QUEUE_DEPTH = _metric("queue_depth", "gauge", "Jobs waiting")
JOBS_IN_PROGRESS = _metric("jobs_in_progress", "gauge", "Jobs at work")
COURIER_QUEUE_DEPTH = _metric("courier_queue_depth", "gauge", "Jobs waiting for a courier, those put off included")
COURIERS = _metric("couriers", "gauge", "Couriers with a fresh heartbeat")
WORKERS = _metric("workers", "gauge", "Workers with a fresh heartbeat")
# the worker
_RUN = ("operation", "model")
QUEUE_WAIT = _metric("queue_wait_seconds", "histogram", "From submission to the claim of a worker", *_RUN)
BATCH_SIZE = _metric("batch_size", "histogram", "Jobs that shared one run of the networks", *_RUN)
BATCH_COMPUTE = _metric("batch_compute_seconds", "histogram", "Device time in the networks per batch", *_RUN, "device")
PREPARE = _metric("prepare_seconds", "histogram", "Decoding and checking per job, before the networks", "operation")
FINISH = _metric("finish_seconds", "histogram", "Writing of result objects per job", "operation")
ITEMS = _metric("items", "counter", "Jobs that left a worker", "operation", "outcome")
WORKER_FAILURES = _metric("worker_failures", "counter", "Jobs that failed in this process", "code", "operation")
STEPS = _metric("denoise_steps", "counter", "Steps reported by the networks", *_RUN)
UNWRITTEN = _metric("trail_unwritten", "gauge", "Ends of jobs that wait to be put on record in the audit trail")
OUT_OF_MEMORY = _metric("out_of_memory", "counter", "Batches that did not fit and were split")
GPU_MEMORY = _metric("gpu_memory_bytes", "gauge", "Device memory reserved by this worker")
MODEL_LOADED = _metric("model_loaded", "gauge", "1 for each bundle that this worker has in memory", "model", "version")
MODEL_ACTIVE = _metric("model_active", "gauge", "1 for the bundle of jobs without a pin", "model", "version")
# the courier; it counts ITEMS and WORKER_FAILURES as well
STAGE_DURATION = _metric("stage_seconds", "histogram", "Time of one run of a stage that speaks to a PACS", "stage")
PUT_OFF = _metric("jobs_put_off", "counter", "Runs of a stage put off because the PACS was out of reach", "stage")
INSTANCES = _metric("pacs_instances", "counter", "Instances pulled, stored, or not taken by the PACS", "outcome")
NOTICES = _metric("webhook_notices", "counter", "Tries to tell the webhook of the end of a job", "outcome")
# the C-STORE SCP
SCP_INSTANCES = _metric("scp_instances", "counter", "Instances offered by C-STORE", "outcome")
SCP_ASSOCIATIONS = _metric("scp_associations", "counter", "Associations, and why some were broken off", "outcome")
SCP_CONTEXTS = _metric("scp_contexts_rejected", "counter", "Presentation contexts that were offered and not accepted")
SCP_SERIES = _metric("scp_series", "counter", "Series that were complete", "outcome")
SCP_SPOOLED = _metric("scp_spooled_series", "gauge", "Series in the spool, submitted ones included until they expire")
SCP_QUARANTINED = _metric("scp_quarantined", "gauge", "Entries in quarantine")
SCP_FREE = _metric("scp_spool_free_bytes", "gauge", "Free space of the spool's file system")

EVERY: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
