"""From job ids to committed results: claim, prepare, batch, run, finish; each item succeeds or fails alone.

celery-batches acknowledges messages whatever happens here, so every path below ends in a commit to the store, or leaves
the lease to run out so that another worker takes over. Nothing raises out of ``handle``.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Timer
from typing import Any

import obstore.exceptions
import redis
import structlog

from reacquire.errors import BundleError, OverloadedError, ReacquireError
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.endings import OUTAGES, Endings
from reacquire.jobs.ends import NOBODY, EndWitness
from reacquire.jobs.leases import Leases
from reacquire.jobs.logs import describe
from reacquire.jobs.record import BundleRef, Claim, Failure, JobRecord
from reacquire.jobs.store import JobStore, Progress
from reacquire.jobs.tracing import OFF, Attribute, Tracing
from worker import memory
from worker.batching import Batcher, BatchPolicy
from worker.items import Elsewhere, Item, Pipeline, Pipelines, model_of
from worker.metrics import WorkerMetrics
from worker.patience import Patience
from worker.settle import Settler

log = structlog.get_logger("worker")

PASS_ON_S = 2.0  # a job for another worker rests so long: it may come back to this one


@dataclass(frozen=True)
class Runner:
    """Runs jobs, one batch at a time, on ``pipeline``; with ``shelf`` each on the pipeline of its own bundle.

    ``republish`` sends ids back to the queue; it is used when the worker drains. ``elsewhere`` says whether another
    worker could run a bundle that the shelf does not have; ``strays`` are the jobs that are left to it. ``patience_s``:
    how long the storage may be away from a job before it fails.
    """

    name: str
    pipeline: Pipeline
    store: JobStore
    blobs: BlobStore
    leases: Leases
    policy: BatchPolicy
    metrics: WorkerMetrics
    republish: Callable[[Iterable[str]], None]
    progress_s: float = 0.25
    clock: Callable[[], float] = time.monotonic
    device: str = "cpu"
    witness: EndWitness = NOBODY
    tracing: Tracing = OFF
    shelf: Pipelines | None = None
    elsewhere: Callable[[BundleRef], bool] = lambda _: False
    strays: list[str] = field(default_factory=list)
    patience_s: float = 900.0

    @property
    def endings(self) -> Endings:
        return Endings(self.store, self.blobs, self.leases, self.republish, self.metrics.count, self.witness)

    @property
    def patience(self) -> Patience:
        return Patience(self.endings, self.patience_s)

    def settler(self, item: Item) -> Settler:
        """The last step for an item, on the pipeline that it ran on."""
        return Settler(item.pipeline, self.blobs, self.endings, self.metrics)

    def handle(self, ids: Sequence[str]) -> None:
        """Run what can be claimed of ``ids``; returns when all of it is settled."""
        self.leases.feed()
        self._abandon()
        batcher: Batcher[Item] = Batcher(self.policy)
        unique, bundles = self._by_bundle(list(dict.fromkeys(ids)))
        for position, job_id in enumerate(unique):
            if self.leases.draining.is_set():
                self._hand_back(unique[position:])
                break
            if position and bundles[position] != bundles[position - 1]:  # their networks may have to leave
                for batch in batcher.drain():
                    self._run(batch)
            item = self._take(job_id)
            full = batcher.offer(item) if item else None
            if full:
                self._run(full)
        for batch in batcher.drain():
            self._run(batch)
        self._pass_on()
        self.leases.feed()

    def _abandon(self) -> None:
        """Nothing is in hand now: others may have what this worker holds by a claim or a commit that was lost."""
        try:
            found = self.store.abandon(self.name)
        except redis.RedisError:  # claiming will fail as well
            return
        if found:
            log.warning("jobs left to others", count=found)

    def _by_bundle(self, ids: list[str]) -> tuple[list[str], list[str]]:
        """The ids, those of one bundle together and in their order, and the bundle of each."""
        if self.shelf is None or not ids:
            return ids, [""] * len(ids)
        try:
            bundles = self.store.bundles_of(ids)
        except redis.RedisError:  # claiming them will fail as well
            bundles = [""] * len(ids)
        ranks = {bundle: rank for rank, bundle in enumerate(dict.fromkeys(bundles))}
        order = sorted(range(len(ids)), key=lambda i: ranks[bundles[i]])
        return [ids[i] for i in order], [bundles[i] for i in order]

    def _hand_back(self, ids: Sequence[str]) -> None:
        try:
            self.republish(ids)
        except Exception as error:  # the reconciler of another worker sends them again
            log.warning("messages not handed back", count=len(ids), error=describe(error))

    def _take(self, job_id: str) -> Item | None:
        """Claim and prepare one job; None when there is nothing (more) to do for it."""
        try:
            claims = self.store.claim([job_id], self.name)
            if not claims:
                return None
            self.leases.add(claims[0])
            return self._prepare(claims[0])
        except OUTAGES as error:
            log.warning("job left to its lease", job=job_id, error=describe(error))
            self._forget(job_id)
            return None

    def _forget(self, job_id: str) -> None:
        for claim in self.leases.held:
            if claim.id == job_id:
                self.leases.remove(claim)

    def _prepare(self, claim: Claim) -> Item | None:
        started, operation = self.clock(), "unknown"
        try:
            record = self.store.get(claim.id)
            operation = record.operation
            wait_s = (record.claimed_ms - record.entered_ms) / 1000
            pipeline = self._pipeline_of(record)
            self.metrics.queue_wait.labels(operation, model_of(pipeline).label).observe(max(0.0, wait_s))
            with self.tracing.span("prepare", parent=record.trace, attributes=_job(claim, operation)):
                work = pipeline.prepare(record.operation_spec, [self.blobs.get(key) for key in record.inputs])
        except Elsewhere:
            self.endings.give_back(claim, operation, wake=False)
            self.strays.append(claim.id)
            return None
        except ReacquireError as error:
            self.endings.fail(claim, Failure.of(error), operation)
            return None
        except obstore.exceptions.BaseError as error:
            self.patience.put_off(claim, operation, error)
            return None
        except redis.RedisError:
            raise
        except Exception as error:  # a fault of ours in one job must not reach its batch mates
            self.endings.fail(claim, as_failure(error, claim), operation)
            return None
        self.metrics.prepare.labels(operation).observe(self.clock() - started)
        bundle = record.bundle.sha256 if record.bundle else ""
        return Item(claim, operation, work, pipeline, bundle, delivers=bool(record.deliver_to), trace=record.trace)

    def _pipeline_of(self, record: JobRecord) -> Pipeline:
        """The pipeline of the very bundle that the job was accepted under.

        Raises
        ------
        Elsewhere
            When another worker has it and this one does not.
        BundleError
            When nobody has it.
        """
        if self.shelf is None or record.bundle is None:
            return self.pipeline
        try:
            return self.shelf.pick(record.bundle)
        except BundleError as error:
            if error.code != "model-unavailable":
                raise
            if self.elsewhere(record.bundle):
                raise Elsewhere from None
            detail = f"{error.detail}, nor has any other; the job was accepted under it and runs with no other"
            raise BundleError(detail, code=error.code) from None

    def _pass_on(self) -> None:
        """Leave jobs to a worker that has their bundle: their messages are sent again after a while."""
        if self.strays:
            timer = Timer(PASS_ON_S, self._hand_back, [self.strays.copy()])
            timer.daemon = True  # lost with this process; the reconciler sends them too
            timer.start()
            self.strays.clear()

    def _run(self, batch: Sequence[Item]) -> None:
        """Compute one batch and settle every item of it.

        A batch has as many parents as it has jobs, so its span is in a trace of its own, linked to theirs.
        """
        batch_id = uuid.uuid4().hex[:12]
        operation, model = batch[0].operation, batch[0].model
        self.metrics.batch_size.labels(operation, model.label).observe(len(batch))
        started = self.clock()
        try:
            self.store.set_batch([item.claim for item in batch], batch_id, model)
        except redis.RedisError as error:
            log.warning("batch not recorded", batch=batch_id, error=describe(error))
        about: dict[Attribute, str | int] = {
            "reacquire.batch.id": batch_id,
            "reacquire.batch.size": len(batch),
            "reacquire.operation": operation,
            "reacquire.model": model.label,
            "reacquire.device": self.device,
        }
        links = [item.trace for item in batch if item.trace]
        with self.tracing.span("batch", parent="", links=links, kind="consumer", attributes=about) as span:
            raws = self._compute(batch)
            seconds = self.clock() - started
            log.info("batch ran", batch=batch_id, operation=operation, size=len(batch), seconds=round(seconds, 3))
        self.metrics.compute.labels(operation, model.label, self.device).observe(seconds)
        for item, raw in zip(batch, raws, strict=True):
            links = [span.traceparent] if span.traceparent else []
            with self.tracing.span("finish", parent=item.trace, links=links, attributes=_job(item.claim, operation)):
                self._settle(item, raw)

    def _settle(self, item: Item, raw: Any) -> None:
        try:
            self.settler(item).settle(item.claim, item.operation, item.work, raw, delivers=item.delivers)
        except obstore.exceptions.BaseError as error:
            self.patience.put_off(item.claim, item.operation, error)
        except redis.RedisError as error:
            log.warning("job left to its lease", job=item.claim.id, error=describe(error))
        finally:
            self.leases.remove(item.claim)

    def _compute(self, batch: Sequence[Item]) -> list[Any]:
        """One entry per item: the networks' raw result, an error, or None for an item that was dropped.

        Memory ran out: both halves are tried. Anything else unforeseen: each item is tried alone, so that only the
        one that causes it fails.
        """
        raws, trouble = self._attempt(batch)
        if trouble is None:
            return raws
        too_large = trouble["out_of_memory"]
        if too_large:
            self.metrics.out_of_memory.inc()
            memory.release()
        if len(batch) == 1:
            return [
                OverloadedError("this job needs more memory than the worker has; send fewer slices", code="overloaded")
                if too_large
                else ReacquireError("the networks failed on this input")
            ]
        cuts = [0, len(batch) // 2, len(batch)] if too_large else list(range(len(batch) + 1))
        parts = [batch[a:b] for a, b in pairwise(cuts)]
        return [raw for part in parts for raw in self._compute(part)]

    def _attempt(self, batch: Sequence[Item]) -> tuple[list[Any], dict[str, Any] | None]:
        """Run once. The error is reduced to a description here: its traceback would keep the batch's tensors alive."""
        active = [item for item in batch if not self._must_drop(item)]
        positions = {id(item): index for index, item in enumerate(active)}
        try:
            works = [item.work for item in active]
            results = active[0].pipeline.run(works, self._watch(active)) if active else []
        except Exception as error:
            trouble = {"out_of_memory": memory.is_out_of_memory(error), **describe(error)}
            log.warning("batch failed", size=len(active), error=trouble)
            return [], trouble
        return [results[positions[id(item)]] if id(item) in positions else None for item in batch], None

    def _must_drop(self, item: Item) -> bool:
        return self.leases.draining.is_set() or self.leases.verdict(item.claim) != "held"

    def _watch(self, active: Sequence[Item]) -> Callable[[int, int], Collection[int]]:
        """The networks' ``on_step``: reports progress at a bounded rate, answers with the items to let go."""
        last = float("-inf")

        def on_step(done: int, total: int) -> Collection[int]:
            nonlocal last
            now = self.clock()
            self.metrics.steps.labels(active[0].operation, active[0].model.label).inc()
            if now - last >= self.progress_s or done == total:
                last = now
                try:
                    self.leases.report([Progress(i.claim, done, total) for i in active if not self._must_drop(i)])
                except redis.RedisError as error:  # the next report, or the commit, finds out
                    log.warning("progress not reported", error=describe(error))
            return {index for index, item in enumerate(active) if self._must_drop(item)}

        return on_step


def _job(claim: Claim, operation: str) -> dict[Attribute, str | int]:
    return {"reacquire.job.id": claim.id, "reacquire.operation": operation}


def as_failure(error: BaseException, claim: Claim) -> Failure:
    """What the user is told of an unforeseen error: nothing of its text, which may quote the data."""
    log.error("job failed unexpectedly", job=claim.id, error=describe(error))
    if memory.is_out_of_memory(error):
        return Failure("overloaded", "this job needs more memory than the worker has; send fewer slices")
    return Failure("internal-error", "the job failed for a reason that was not foreseen; it has been logged")
