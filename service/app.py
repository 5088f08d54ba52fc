"""``create_app`` and its twin for the inner port: wiring and lifespan, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from reacquire import __version__
from service import errors
from service.admission import BodyLimit, Knock
from service.context import build_context
from service.doorkeeper import identify
from service.middleware import Envelope
from service.openapi import DESCRIPTION
from service.patience import SlowBody
from service.routes import catalogue, health, jobs, operations, pacs
from service.settings import ServiceSettings


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await app.state.context.watcher.start()
    yield
    await app.state.context.watcher.stop()
    app.state.context.ends.close()
    app.state.context.tracing.close()


def create_app(settings: ServiceSettings) -> FastAPI:
    """The API with its own connections; several may live in one process."""
    app = FastAPIOffline(  # a FastAPI whose /docs brings its own scripts: hospital networks reach no CDN
        title="Reacquire",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # its badge would call out as well
    )
    app.state.context = build_context(settings)
    errors.install(app)
    app.add_middleware(SlowBody, grace_s=settings.body_grace_s, rate=settings.body_rate)
    app.add_middleware(BodyLimit, largest=settings.max_body_bytes, together=settings.bodies_bytes)
    if settings.access != "off":
        app.add_middleware(Knock, hooks=f"/v1{pacs.hooks.prefix}/")
    app.add_middleware(Envelope)  # added last: outermost
    app.include_router(pacs.router, prefix="/v1")  # before the forms: it takes application/json and nothing else
    app.include_router(pacs.router, include_in_schema=False)
    app.include_router(pacs.hooks, prefix="/v1")
    app.include_router(operations.router, prefix="/v1")
    app.include_router(jobs.router, prefix="/v1")
    app.include_router(catalogue.router, prefix="/v1", dependencies=[Depends(identify)])
    app.include_router(operations.router, include_in_schema=False)
    app.include_router(catalogue.problems)
    app.include_router(health.router)
    if settings.metrics_port is None:
        app.include_router(health.inner)
    return app


def create_inner_app(outer: FastAPI) -> FastAPI:
    """Probes and metrics of ``outer``, for a port that clients don't reach."""
    app = FastAPI(title="Reacquire, inside", openapi_url=None)
    app.state.context = outer.state.context
    errors.install(app)
    app.add_middleware(Envelope)
    app.include_router(health.router)
    app.include_router(health.inner)
    return app
