"""The Celery application of a worker, its prefetch and acknowledgement arithmetic, and the life of the process.

Solo pool: CUDA does not survive a fork (celery/celery#3402), and one process per GPU is what we want anyway.
Prefetch: multiplier x concurrency 1 = ``batch_items``, so that a flush can fill a whole batch.
Late acknowledgement: a message that dies with the worker returns to the queue after the visibility timeout; the
reconciler is much quicker, and the claim makes the second copy a no-op.
"""

import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from celery import Celery, signals
from celery.worker.request import Request
from celery_batches import Batches

from reacquire import __version__
from reacquire.jobs.activation import Activations
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.broker import QUEUE, TASK, URGENT, Publisher, celery_app
from reacquire.jobs.ends import EndWitness, open_trail
from reacquire.jobs.leases import Leases
from reacquire.jobs.presence import Presence, WorkerInfo
from reacquire.jobs.pulse import Pulse
from reacquire.jobs.reconciler import Reconciler
from reacquire.jobs.record import BundleRef
from reacquire.jobs.store import JobStore, connect
from reacquire.jobs.tracing import open_tracing
from worker import memory
from worker.batching import BatchPolicy, default_budget
from worker.items import Pipeline
from worker.metrics import WorkerMetrics
from worker.runner import Runner
from worker.settings import WorkerSettings
from worker.shelf import Shelf
from worker.warmer import Warmer

log = structlog.get_logger("worker")


class LoudRequest(Request):
    """A message of which a failed acknowledgement counts as a lost connection, so that Celery connects anew.

    Celery would log the failure and go on, while kombu 5.7 (``QoS.ack``) keeps the message's place in the prefetch
    window: once such places fill the window, nothing reads the broker's socket any more, and nobody finds out that it
    was lost (celery/celery#8030).
    """

    def __init__(self, message: Any, **kwargs: Any) -> None:
        super().__init__(message, **kwargs | {"connection_errors": ()})  # those to swallow


class SteadyBatches(Batches):
    """celery-batches that keeps flushing after the broker connection was lost.

    Celery then builds a new consumer with a new timer, while celery-batches 0.11 still holds the old timer's entry and
    so never starts another: the worker looks alive and works on nothing.
    """

    abstract = True
    Request = LoudRequest

    def Strategy(self, task: Batches, app: Celery, consumer: Any) -> Callable[..., None]:
        self._tref = None
        if not self._buffer.empty():
            self._tref = consumer.timer.call_repeatedly(self.flush_interval, self._do_flush)
        handler: Callable[..., None] = super().Strategy(task, app, consumer)
        return handler


def build_app(settings: WorkerSettings, runner: Runner) -> Celery:
    """Celery with one batched task that hands its job ids to ``runner``."""
    app = celery_app(settings)
    app.conf.update(
        worker_prefetch_multiplier=settings.batch_items,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_acks_late=True,
    )

    @app.task(
        base=SteadyBatches, name=TASK, flush_every=settings.batch_items, flush_interval=settings.flush_s, acks_late=True
    )
    def run(requests: list[Any]) -> None:
        runner.handle([r.args[0] for r in requests if r.args and isinstance(r.args[0], str)])

    return app


@dataclass(frozen=True)
class Bundles:
    """The bundles of a worker: those in memory, and the one of its settings (None when that is not sound)."""

    shelf: Shelf
    configured: BundleRef | None

    def warmer(self, activations: Activations) -> Warmer:
        return Warmer(self.shelf, activations, configured=self.configured)


def worker_name() -> str:
    """Unique even when two workers share a host and a recycled process id."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def serve(
    settings: WorkerSettings,
    pipeline: Pipeline,
    *,
    device: str = "cpu",
    bundle: str = "unknown",
    bundles: Bundles | None = None,
) -> int:
    """Consume jobs until SIGTERM or SIGINT; the exit status. The pipeline must be loaded and warm.

    It runs every job, unless ``bundles`` gives each the pipeline of its own. On a signal, running items are let go
    between two steps and go back to the queue.
    """
    name = worker_name()
    store = JobStore(connect(settings), settings)
    publisher = Publisher(celery_app(settings))
    blobs, leases, metrics = BlobStore.open(settings.blob_url), Leases(store), WorkerMetrics()
    presence, witness = Presence(store), EndWitness(open_trail(settings, "worker"), name)
    tracing = open_tracing("worker", wanted=settings.tracing)
    witness.start()
    warmer = bundles.warmer(Activations(store)) if bundles else None
    runner = Runner(
        name,
        pipeline,
        store,
        blobs,
        leases,
        BatchPolicy(settings.batch_items, settings.batch_budget or default_budget(device)),
        metrics,
        lambda ids: publisher.publish(ids, priority=URGENT),
        progress_s=settings.progress_s,
        device=device.split(":")[0],
        witness=witness,
        tracing=tracing,
        shelf=bundles.shelf if bundles else None,
        elsewhere=lambda wanted: any(wanted.sha256 in w.offers for n, w in presence.alive().items() if n != name),
        patience_s=settings.storage_patience_s,
    )

    measure = partial(_measure, metrics, witness, warmer, bundle)
    pulse = Pulse(
        settings,
        WorkerInfo(name, device, bundle, __version__),
        presence=presence,
        leases=leases,
        reconciler=Reconciler(store, presence, publisher, blobs, witness),
        measure=measure,
        stage="compute",
        ready_file=settings.ready_file,
        ready=lambda: warmer is None or warmer.ready,
        report=lambda: warmer.report() if warmer else {},
    )
    measure()
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_host, settings.metrics_port)
    with closing(tracing), closing(witness), _following(warmer):
        return _consume(build_app(settings, runner), pulse, leases, name)


@contextmanager
def _following(warmer: Warmer | None) -> Iterator[None]:
    """The warmer at work, if there is one."""
    if warmer is not None:
        warmer.start()
    try:
        yield
    finally:
        if warmer is not None:
            warmer.stop()


def _measure(metrics: WorkerMetrics, witness: EndWitness, warmer: Warmer | None, bundle: str) -> None:
    """Write what the trail still waits for, and bring the gauges up to date."""
    witness.flush()
    metrics.unwritten.set(witness.waiting)
    metrics.gpu_memory.set(memory.device_bytes())
    loaded = [held.series for held in warmer.shelf.held] if warmer else [bundle]
    active = warmer.active.series if warmer and warmer.active else bundle
    metrics.show_bundles(metrics.model_loaded, loaded)
    metrics.show_bundles(metrics.model_active, [active])


def _consume(app: Celery, pulse: Pulse, leases: Leases, name: str) -> int:
    def drain(**_: Any) -> None:
        leases.draining.set()

    def keep_logging(**_: Any) -> None:
        """Receiving this signal keeps Celery from configuring the root logger."""

    signals.worker_shutting_down.connect(drain, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    worker = app.Worker(
        hostname=name,
        pool_cls="solo",
        concurrency=1,
        queues=[QUEUE],
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    log.info("worker ready", worker=name)
    pulse.start()
    try:
        worker.start()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not cut the good-bye short
        pulse.stop()
        log.info("worker stopped", worker=name)
    return int(worker.exitcode or 0)
