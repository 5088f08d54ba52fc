"""What handlers need, built once per application and passed in: settings, store, blobs, broker, watcher, metrics."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from reacquire.dicom import Limits
from reacquire.iap import Vocabulary, load_vocabulary
from reacquire.jobs.activation import Activations
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.broker import Publisher, celery_app
from reacquire.jobs.ends import NOBODY, EndWitness, open_trail
from reacquire.jobs.presence import Presence
from reacquire.jobs.store import JobStore, connect
from reacquire.jobs.tracing import OFF, Tracing, open_tracing
from reacquire.pacs.config import PacsConfig, load_pacs_config
from reacquire.trail import Trail
from service.doorkeeper import Doorkeeper
from service.metrics import ServiceMetrics
from service.settings import ServiceSettings
from service.watch import Watcher


@dataclass(frozen=True)
class Context:
    """The collaborators of the handlers. ``ends`` puts on record what may wait, ``trail`` what may not."""

    settings: ServiceSettings
    store: JobStore
    blobs: BlobStore
    publisher: Publisher
    presence: Presence
    activations: Activations
    watcher: Watcher
    metrics: ServiceMetrics
    vocabulary: Vocabulary
    limits: Limits
    doorkeeper: Doorkeeper
    ends: EndWitness = NOBODY
    tracing: Tracing = OFF
    pacs: PacsConfig = field(default_factory=PacsConfig)
    large_uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @property
    def trail(self) -> Trail | None:
        """The audit trail of this process, where one is kept."""
        return self.ends.trail


def build_context(settings: ServiceSettings) -> Context:
    """Connect lazily: nothing here fails when Redis is down, readiness says so instead.

    Raises
    ------
    OSError, ValueError, yaml.YAMLError, pydantic.ValidationError
        When the PACS configuration, the key file or the folder of the audit trail cannot be used.
    ImportError
        When traces are wanted and OpenTelemetry is not installed.
    """
    store = JobStore(connect(settings), settings)
    presence, ends = Presence(store), EndWitness(open_trail(settings, "service"), "service")
    ends.start()
    return Context(
        settings=settings,
        store=store,
        blobs=BlobStore.open(settings.blob_url),
        publisher=Publisher(celery_app(settings)),
        presence=presence,
        activations=Activations(store),
        watcher=Watcher(store),
        metrics=ServiceMetrics(store, presence, ends),
        vocabulary=load_vocabulary(),
        # a zip may inflate to no more than could have been sent plainly: the API process is small
        limits=Limits(series_bytes=min(Limits().series_bytes, settings.max_body_bytes)),
        doorkeeper=Doorkeeper.of(settings),
        ends=ends,
        tracing=open_tracing("service", wanted=settings.tracing),
        pacs=load_pacs_config(settings.pacs_config),
    )


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]
