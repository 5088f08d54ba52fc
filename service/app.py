"""``create_app``: wiring and lifespan, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from reacquire import __version__
from service import errors
from service.context import build_context
from service.doorkeeper import identify
from service.middleware import BodyLimit, Envelope
from service.openapi import DESCRIPTION
from service.routes import catalogue, health, jobs, operations, pacs
from service.settings import ServiceSettings


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await app.state.context.watcher.start()
    yield
    await app.state.context.watcher.stop()
    if app.state.context.trail is not None:
        app.state.context.trail.close()


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
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
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
    return app
