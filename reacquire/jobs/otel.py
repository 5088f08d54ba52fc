"""``Tracing`` on OpenTelemetry's SDK (extra ``otel``); the one module that imports it.

The SDK reads the standard variables itself: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER, ... The exporter speaks OTLP over HTTP.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from reacquire import __version__
from reacquire.jobs.tracing import ATTRIBUTES, Attribute, Kind

W3C = TraceContextTextMapPropagator()
KINDS: dict[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


def _remote(traceparent: str) -> trace.SpanContext:
    """The span of another process; an invalid context for what is no traceparent."""
    return trace.get_current_span(W3C.extract({"traceparent": traceparent}, context.Context())).get_span_context()


def _wire(found: trace.SpanContext) -> str:
    """W3C Trace Context, section 3.2: version, trace id, parent id, flags."""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}" if found.is_valid else ""


@dataclass(frozen=True)
class OtelSpan:
    """A span of the SDK, behind the names that we allow ourselves."""

    span: trace.Span

    @property
    def traceparent(self) -> str:
        return _wire(self.span.get_span_context())

    def set(self, attribute: Attribute, value: str | int) -> None:
        _check({attribute})
        self.span.set_attribute(attribute, value)

    def rename(self, name: str) -> None:
        self.span.update_name(name)


def _check(names: set[Attribute]) -> None:
    if names - ATTRIBUTES:
        raise ValueError(f"not an attribute of ours: {', '.join(sorted(names - ATTRIBUTES))}")


class OtelTracing:
    """Spans of one program; the log lines within one bear its ``trace_id``."""

    def __init__(self, program: str, processor: SpanProcessor) -> None:
        named = Resource.create()
        if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):  # else OTEL_SERVICE_NAME says it
            named = named.merge(Resource({SERVICE_NAME: f"reacquire-{program}"}))
        self._provider = TracerProvider(resource=named.merge(Resource({SERVICE_VERSION: __version__})))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("reacquire", __version__)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        kind: Kind = "internal",
        attributes: dict[Attribute, str | int] | None = None,
    ) -> Iterator[OtelSpan]:
        _check(set(attributes or ()))
        below = None if parent is None else trace.set_span_in_context(
            trace.NonRecordingSpan(_remote(parent)), context.Context()
        )  # fmt: skip
        found = [remote for link in links if (remote := _remote(link)).is_valid]
        with self._tracer.start_as_current_span(
            name,
            context=below,
            kind=KINDS[kind],
            attributes={str(name): value for name, value in (attributes or {}).items()},
            links=[trace.Link(remote) for remote in found],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            bound = {"trace_id": f"{span.get_span_context().trace_id:032x}"}
            with structlog.contextvars.bound_contextvars(**bound):
                try:
                    yield OtelSpan(span)
                except BaseException as error:
                    span.set_attribute("error.type", type(error).__name__)
                    span.set_status(trace.StatusCode.ERROR)
                    raise

    def here(self) -> str:
        return _wire(trace.get_current_span().get_span_context())

    def close(self) -> None:
        self._provider.shutdown()


def exporting(program: str) -> OtelTracing:
    """Traces that are sent over OTLP/HTTP, from a thread of their own."""
    return OtelTracing(program, BatchSpanProcessor(OTLPSpanExporter()))
