"""The one way into the store, for the API, the courier and the C-STORE SCP: check, store the bytes, enter, wake.

Decodes no pixels and speaks to no PACS: what only that can find fails the job later with the same codes.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import redis
import structlog

from reacquire.dicom import Limits, inspect, order_series, unpack
from reacquire.dicom.limits import DEFAULT
from reacquire.errors import ContainerError, OverloadedError
from reacquire.iap import Vocabulary, load_vocabulary
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.broker import Publisher, celery_app
from reacquire.jobs.config import JobsConfig
from reacquire.jobs.logs import describe
from reacquire.jobs.record import BundleRef, JobRecord, RouteSpec, new_job_id
from reacquire.jobs.spec import OperationSpec
from reacquire.jobs.states import STATES, State
from reacquire.jobs.store import QUEUE_FULL, Idempotency, JobStore, Plan, connect
from reacquire.pacs.reference import SeriesReference

log = structlog.get_logger("reacquire.jobs")

GIVEN_UP: Collection[State] = ("failed", "cancelled")
BEGUN: Collection[State] = tuple(state for state in STATES if state != "queued")


@dataclass(frozen=True)
class Submission:
    """What was accepted: the job as it was then, and whether this request created it (a repetition did not).

    ``instances`` are the SOPInstanceUIDs of an upload, for the caller's audit trail; they go nowhere else.
    """

    record: JobRecord
    created: bool
    instances: tuple[str, ...] = ()

    @property
    def job_id(self) -> str:
        return self.record.id


@dataclass(frozen=True)
class Intake:
    """Enters jobs. Every method raises the ``ReacquireError`` of the first rule that is broken; nothing is stored then.

    In each of them ``key`` is an idempotency key; with ``renew`` a key whose job failed or was cancelled is free again.
    ``notify``: the end of the job is told to the configured webhook. Jobs belong to ``owner`` (empty: to nobody), who
    may have ``concurrent`` of them unfinished at a time; idempotency keys are its own. ``bundle`` is the one that the
    caller has pinned; None takes the active one. ``trace`` is the W3C traceparent that their spans belong to.
    """

    store: JobStore
    blobs: BlobStore
    publisher: Publisher
    vocabulary: Vocabulary
    limits: Limits
    owner: str = ""
    concurrent: int | None = None
    bundle: BundleRef | None = None
    trace: str = ""

    @classmethod
    def open(cls, config: JobsConfig, *, limits: Limits = DEFAULT) -> "Intake":
        """With connections of its own; they connect when first used."""
        store, blobs = JobStore(connect(config), config), BlobStore.open(config.blob_url)
        return cls(store, blobs, Publisher(celery_app(config)), load_vocabulary(), limits)

    def files(
        self,
        spec: OperationSpec,
        files: Sequence[bytes],
        *,
        key: str | None = None,
        deliver_to: str | None = None,
        notify: bool = False,
        renew: bool = False,
    ) -> Submission:
        """A job on files at hand (DICOM files, or zips of a series): compute, then deliver when a site is named."""
        spec = self._checked(spec, delivers=deliver_to is not None)
        members, instances = self._series(spec, files)
        digest = fingerprint(spec, *files, (deliver_to or "").encode(), *self._pinned())
        idempotency = Idempotency(key, digest, free_in=GIVEN_UP if renew else ()) if key is not None else None
        submission = self._enter(spec, members, Plan("compute", deliver_to or "", notify), idempotency)
        return replace(submission, instances=instances)

    def reference(
        self,
        spec: OperationSpec,
        reference: SeriesReference,
        *,
        key: str | None = None,
        deliver_to: str | None = None,
        notify: bool = False,
        renew: bool = False,
    ) -> Submission:
        """A job on a series of a PACS: fetch, compute, then deliver when a site is named."""
        spec = self._checked(spec, delivers=deliver_to is not None)
        document = reference.to_bytes()
        digest = fingerprint(spec, document, (deliver_to or "").encode(), *self._pinned())
        idempotency = Idempotency(key, digest, free_in=GIVEN_UP if renew else ()) if key is not None else None
        return self._enter(spec, [document], Plan("fetch", deliver_to or "", notify), idempotency)

    def route(self, reference: SeriesReference, *, window_s: float) -> Submission:
        """A job that asks the rules what to do with a series; one that waits (for ``window_s``) is not doubled.

        Once it has begun another announcement is another job: the series may have grown since it looked.
        """
        document = reference.to_bytes()
        spec = RouteSpec()
        idempotency = Idempotency(f"route {document.decode()}", fingerprint(spec, document), window_s, BEGUN)
        return self._enter(spec, [document], Plan("fetch"), idempotency)

    def _pinned(self) -> tuple[bytes, ...]:
        """What a pin adds to a fingerprint; nothing without one, so that keys of before stay good."""
        return (self.bundle.sha256.encode(),) if self.bundle else ()

    def _checked(self, spec: OperationSpec, *, delivers: bool) -> OperationSpec:
        """The spec as it will be run; what a PACS gets bears the watermark and is DICOM, whatever was asked for."""
        if spec.operation == "counterfactual":
            self.vocabulary.validate(spec.target)
        if not delivers:
            return spec
        forced = {"watermark": True, "report": spec.options.report or spec.operation == "predict-iap"}
        return spec.model_copy(update={"options": spec.options.model_copy(update=forced)})

    def _series(self, spec: OperationSpec, files: Sequence[bytes]) -> tuple[list[bytes], tuple[str, ...]]:
        """The DICOM files of an upload in the order of the series, without repetitions, and their SOPInstanceUIDs."""
        check_size(sum(map(len, files)), self.limits)
        members: list[bytes] = []
        for data in files:  # what several zips inflate to counts together
            left = self.limits.series_bytes - sum(map(len, members))
            members += unpack(data, limits=replace(self.limits, series_bytes=left))
        check_count(len(members), self.limits)
        headers = [inspect(member, allow_synthetic=spec.options.allow_synthetic) for member in members]
        order = order_series(headers)
        return [members[index] for index in order], tuple(headers[index].sop_instance_uid for index in order)

    def _enter(
        self, spec: OperationSpec | RouteSpec, files: list[bytes], plan: Plan, idempotency: Idempotency | None
    ) -> Submission:
        job_id = new_job_id()
        most = self.concurrent or 0
        plan = replace(plan, owner=self.owner, most=most, bundle=self.bundle, trace=self.trace)
        if idempotency is not None and self.owner:
            idempotency = replace(idempotency, key=f"{self.owner} {idempotency.key}")
        # In an outage nothing is written, however often it is tried; nor while there is no room, except that a
        # repeated request is answered with its job all the same.
        if self.store.full() and idempotency is None:
            raise OverloadedError(QUEUE_FULL, code="overloaded")
        try:
            inputs = self.blobs.put_inputs(job_id, files)
            record, created = self.store.create(job_id, spec, inputs, plan=plan, idempotency=idempotency)
        except BaseException:  # whatever it was, the job may have been entered
            self.take_back(job_id)
            raise
        if not created:
            self.blobs.drop_job(job_id)
            return Submission(record, created=False)
        if plan.stage == "compute":
            wake(self.publisher, [job_id])
        log.info("job accepted", job=job_id, operation=spec.operation, stage=plan.stage, files=len(files))
        return Submission(record, created=True)

    def take_back(self, job_id: str) -> None:
        """Unmake a job, whether or not it was entered; while Redis is away it keeps the files that it may work on."""
        try:
            self.store.delete(job_id)
        except redis.RedisError as error:
            log.error("files kept of a job that may have been entered", job=job_id, error=describe(error))
            return
        self.blobs.drop_job(job_id)


def check_size(size: int, limits: Limits) -> None:
    """Refuse more bytes than a series may have."""
    if size > limits.series_bytes:
        raise ContainerError("the files of one request are too large together", code="too-large")


def check_count(count: int, limits: Limits) -> None:
    """Refuse more files than a series may have."""
    if count > limits.instances:
        raise ContainerError(f"a series may have at most {limits.instances} files", code="too-large")


def fingerprint(spec: OperationSpec | RouteSpec, *parts: bytes) -> str:
    """A digest of what a request asks for; equal requests have equal ones."""
    digest = hashlib.sha256(spec.model_dump_json().encode())
    for data in parts:
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def wake(publisher: Publisher, ids: Iterable[str], **how: int) -> None:
    """Tell the workers. Whatever goes wrong only delays the jobs: they are entered, and the reconciler sends again."""
    ids = list(ids)
    try:
        publisher.publish(ids, **how)
    except Exception as error:  # any broker trouble
        log.warning("messages not sent; the reconciler will", jobs=ids, error=describe(error))
