"""What every request passes, as plain ASGI: request id, safe headers, metrics, log line, last-resort 500.

Nothing here looks into a body, and no log line holds a path with user text or a query string.
"""

import re
import time
import uuid
from typing import Any

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reacquire.jobs.logs import describe
from reacquire.jobs.record import Failure
from reacquire.jobs.tracing import Span
from service.errors import problem_response

log = structlog.get_logger("service")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # nothing here is a page, except:
    "Cross-Origin-Resource-Policy": "same-origin",
}
PAGES = {"/docs": "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"}


class Envelope:
    """Wraps the application; must be the outermost middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.state.request_id = request_id
        sent: dict[str, Any] = {}

        async def send_wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if request.url.path in PAGES:
                    headers["Content-Security-Policy"] = PAGES[request.url.path]
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        tracing = request.app.state.context.tracing
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            tracing.span("request", parent=Headers(scope=scope).get("traceparent", ""), kind="server") as span,
        ):
            try:
                await self._app(scope, receive, send_wrapped)
            except Exception as error:
                log.error("unexpected error", error=describe(error))
                if "status" in sent:
                    raise ConnectionAbortedError from None  # too late for a problem; the text stays out of the log
                failure = Failure("internal-error", "the service failed; it has been logged")
                await problem_response(request, failure)(scope, receive, send_wrapped)
            finally:
                self._record(request, span, sent.get("status", 0), time.perf_counter() - started)

    def _record(self, request: Request, span: Span, status: int, seconds: float) -> None:
        route = getattr(request.scope.get("route"), "path", "unmatched")
        method = request.method if request.method in METHODS else "other"
        span.rename(f"{method} {route}")
        span.set("http.request.method", method)
        span.set("http.route", route)
        span.set("http.response.status_code", status)
        metrics = request.app.state.context.metrics
        metrics.requests.labels(method, route, str(status)).inc()
        metrics.duration.labels(route).observe(seconds)
        code = getattr(request.state, "code", None)
        if code is not None:
            metrics.rejected.labels(code).inc()
        quiet = route in ("/livez", "/readyz", "/healthz", "/metrics")
        log.log(10 if quiet else 20, "request", method=method, route=route, status=status, code=code,
                seconds=round(seconds, 4))  # fmt: skip
