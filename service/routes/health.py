"""Probes and metrics. Live: the process turns. Ready: a job sent now would be worked on."""

from collections.abc import Callable

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.responses import JSONResponse

from reacquire import __version__
from reacquire.jobs.logs import describe
from service.context import Context, ContextDep

log = structlog.get_logger("service")
router = APIRouter(tags=["health"])


class Check(BaseModel):
    """One named check of readiness."""

    name: str
    ok: bool
    detail: str


class Readiness(BaseModel):
    ready: bool
    checks: list[Check]


def _redis(context: Context) -> str:
    context.store.client.ping()
    return "answers"


def _blobs(context: Context) -> str:
    context.blobs.check()
    return "can be written and read"


def _workers(context: Context) -> str:
    count = len(context.presence.alive())
    if count == 0:
        raise LookupError("no worker has a fresh heartbeat")
    return f"{count} alive"


def _queue(context: Context) -> str:
    depth, limit = context.store.depth(), context.settings.max_queue
    if depth >= limit:
        raise LookupError(f"{depth} of {limit} places taken")
    return f"{depth} of {limit} places taken"


CHECKS: dict[str, Callable[[Context], str]] = {
    "redis": _redis,
    "blob-store": _blobs,
    "worker": _workers,
    "queue": _queue,
}


def run_check(name: str, context: Context) -> Check:
    """One check; whatever goes wrong in it is its result."""
    try:
        return Check(name=name, ok=True, detail=CHECKS[name](context))
    except LookupError as error:
        return Check(name=name, ok=False, detail=str(error))
    except Exception as error:  # the point of a check
        log.warning("readiness check failed", check=name, error=describe(error))
        return Check(name=name, ok=False, detail="cannot be reached")


@router.get("/livez", summary="The process turns")
async def livez() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


@router.get("/readyz", response_model=Readiness, summary="A job sent now would be worked on")
def readyz(context: ContextDep) -> Response:
    checks = [run_check(name, context) for name in CHECKS]
    answer = Readiness(ready=all(c.ok for c in checks), checks=checks)
    return JSONResponse(answer.model_dump(), 200 if answer.ready else 503)


@router.get("/healthz", response_model=Readiness, summary="The same as /readyz")
def healthz(context: ContextDep) -> Response:
    return readyz(context)


@router.get("/metrics", summary="Prometheus metrics")
def metrics(context: ContextDep) -> Response:
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)
