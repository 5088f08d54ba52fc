"""Probes and metrics. Live: the process turns. Ready: it can take jobs and hand out results.

``inner`` tells numbers and so may have a port of its own; ``router`` tells nothing and is on the API's port as well,
for load balancers and the health checks of images.

A missing worker or a full queue is reported but does not make this process unready: results of finished jobs must stay
within reach, and a job that is accepted waits for a worker.
"""

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
inner = APIRouter(tags=["health"])


class Check(BaseModel):
    """One named check; only the ``required`` ones decide readiness."""

    name: str
    ok: bool
    required: bool
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
    workers = context.presence.alive().values()
    if not workers:
        raise LookupError("no worker has a fresh heartbeat")
    active = context.activations.read().active
    if active is not None and all(worker.warm and active.sha256 not in worker.warm for worker in workers):
        raise LookupError(f"{len(workers)} alive, none with the active bundle {active.label} warm")
    return f"{len(workers)} alive"


def _couriers(context: Context) -> str:
    count = len(context.presence.alive("courier"))
    if count == 0:
        raise LookupError("no courier has a fresh heartbeat")
    return f"{count} alive"


def _queue(context: Context) -> str:
    depth, limit = context.store.depth() + context.store.depth("fetch"), context.settings.max_queue
    if depth >= limit:
        raise LookupError(f"{depth} of {limit} places taken")
    return f"{depth} of {limit} places taken"


CHECKS: dict[str, Callable[[Context], str]] = {
    "redis": _redis,
    "blob-store": _blobs,
    "worker": _workers,
    "queue": _queue,
    "courier": _couriers,
}


REQUIRED = frozenset({"redis", "blob-store"})


def run_check(name: str, context: Context) -> Check:
    """One check; whatever goes wrong in it is its result."""
    try:
        return Check(name=name, ok=True, required=name in REQUIRED, detail=CHECKS[name](context))
    except LookupError as error:
        return Check(name=name, ok=False, required=name in REQUIRED, detail=str(error))
    except Exception as error:  # the point of a check
        log.warning("readiness check failed", check=name, error=describe(error))
        return Check(name=name, ok=False, required=name in REQUIRED, detail="cannot be reached")


@router.get("/livez", summary="The process turns")
async def livez() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


@inner.get("/readyz", response_model=Readiness, summary="Jobs can be taken and results handed out")
def readyz(context: ContextDep) -> Response:
    names = [name for name in CHECKS if name != "courier" or context.pacs.sites]  # only who has a PACS needs one
    checks = [run_check(name, context) for name in names]
    answer = Readiness(ready=all(c.ok for c in checks if c.required), checks=checks)
    return JSONResponse(answer.model_dump(), 200 if answer.ready else 503)


@inner.get("/healthz", response_model=Readiness, summary="The same as /readyz")
def healthz(context: ContextDep) -> Response:
    return readyz(context)


@inner.get("/metrics", summary="Prometheus metrics")
def metrics(context: ContextDep) -> Response:
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)
