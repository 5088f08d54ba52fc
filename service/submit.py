"""From an upload to a queued job: unpack, inspect headers, check the target, store the bytes, enter, publish.

Runs in a thread of the API process. Decodes no pixels: what only decoding can find fails the job later with the same
codes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from reacquire.dicom import inspect, order_series, unpack
from reacquire.errors import ContainerError
from reacquire.jobs.logs import describe
from reacquire.jobs.record import new_job_id
from reacquire.jobs.spec import OperationSpec
from reacquire.jobs.store import Idempotency
from service.context import Context

log = structlog.get_logger("service")


@dataclass(frozen=True)
class Submission:
    """What was accepted: the job, and whether this request created it (an idempotent repetition did not)."""

    job_id: str
    created: bool


def submit(context: Context, spec: OperationSpec, files: Sequence[bytes], key: str | None) -> Submission:
    """Check a request and enter it as a job.

    Parameters
    ----------
    files : the uploaded parts, DICOM files or one zip of a series
    key : the Idempotency-Key header

    Raises
    ------
    ReacquireError
        With the code of the first rule that the request breaks; nothing is stored then.
    """
    if spec.operation == "counterfactual":
        context.vocabulary.validate(spec.target)
    members = checked_series(context, spec, files)
    job_id = new_job_id()
    idempotency = Idempotency(key, fingerprint(spec, files)) if key is not None else None
    try:
        found, created = context.store.create(
            job_id, spec, context.blobs.put_inputs(job_id, members), idempotency=idempotency
        )
    except BaseException:
        context.blobs.drop_job(job_id)
        raise
    if not created:
        context.blobs.drop_job(job_id)
        return Submission(found, created=False)
    context.metrics.submitted.labels(spec.operation).inc()
    publish(context, job_id)
    log.info("job accepted", job=job_id, operation=spec.operation, slices=len(members))
    return Submission(job_id, created=True)


def checked_series(context: Context, spec: OperationSpec, files: Sequence[bytes]) -> list[bytes]:
    """The DICOM files of the upload in the order of the series, without repetitions."""
    if sum(map(len, files)) > context.limits.series_bytes:
        raise ContainerError("the files of one request are too large together", code="too-large")
    members: list[bytes] = []
    for data in files:  # what several zips inflate to counts together
        left = context.limits.series_bytes - sum(map(len, members))
        members += unpack(data, limits=replace(context.limits, series_bytes=left))
    if len(members) > context.limits.instances:
        raise ContainerError(f"a series may have at most {context.limits.instances} files", code="too-large")
    headers = [inspect(member, allow_synthetic=spec.options.allow_synthetic) for member in members]
    return [members[index] for index in order_series(headers)]


def fingerprint(spec: OperationSpec, files: Sequence[bytes]) -> str:
    """A digest of what a request asks for; equal requests have equal ones."""
    digest = hashlib.sha256(spec.model_dump_json().encode())
    for data in files:
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def publish(context: Context, job_id: str) -> None:
    """Wake the workers. Whatever goes wrong only delays the job: it is entered, and the reconciler sends it again."""
    try:
        context.publisher.publish([job_id])
    except Exception as error:
        log.warning("message not sent; the reconciler will", job=job_id, error=describe(error))
