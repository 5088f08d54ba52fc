"""The contract between service and worker: what a job is, where it lives, who may run it. Torch-free.

Only the pure part is exported here; ``store``, ``presence``, ``blobs`` and ``broker`` need the clients of Redis, object
storage and Celery and are imported by their own names.
"""

from reacquire.jobs.config import JobsConfig
from reacquire.jobs.record import (
    Artifact,
    BundleRef,
    Claim,
    Delivery,
    Failure,
    JobRecord,
    Model,
    Refusal,
    RouteSpec,
    is_job_id,
    new_job_id,
)
from reacquire.jobs.spec import Operation, OperationSpec, Options, SamplerName
from reacquire.jobs.states import FINISHED, STATES, TERMINAL, TRANSITIONS, WITH_RESULT, Stage, State

__all__ = [
    "FINISHED",
    "STATES",
    "TERMINAL",
    "TRANSITIONS",
    "WITH_RESULT",
    "Artifact",
    "BundleRef",
    "Claim",
    "Delivery",
    "Failure",
    "JobRecord",
    "JobsConfig",
    "Model",
    "Operation",
    "OperationSpec",
    "Options",
    "Refusal",
    "RouteSpec",
    "SamplerName",
    "Stage",
    "State",
    "is_job_id",
    "new_job_id",
]
