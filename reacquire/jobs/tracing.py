"""Traces across processes: a request, the stages of its job, the batch that several jobs share. Off unless opened.

What travels with a job is the W3C ``traceparent`` alone, two random numbers in its record; ``tracestate`` and baggage
are texts of others and are neither read nor sent on. Attributes are ours: ids, counts, codes, routes. The texts of
exceptions, which may quote header values, never become events.

Nothing of OpenTelemetry is imported here; ``reacquire.jobs.otel`` is, by ``open_tracing``, when traces are wanted.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol, get_args

Kind = Literal["internal", "server", "producer", "consumer"]
Attribute = Literal[
    "http.request.method", "http.route", "http.response.status_code", "error.type",
    "reacquire.job.id", "reacquire.operation", "reacquire.stage", "reacquire.outcome",
    "reacquire.batch.id", "reacquire.batch.size", "reacquire.model", "reacquire.device",
]  # fmt: skip
ATTRIBUTES = frozenset(get_args(Attribute))  # whatever else is set is a fault of ours


class Span(Protocol):
    """A piece of work under way."""

    @property
    def traceparent(self) -> str:
        """Its name on the wire; empty when traces are off."""
        ...

    def set(self, attribute: Attribute, value: str | int) -> None: ...

    def rename(self, name: str) -> None: ...


class Tracing(Protocol):
    """Opens spans."""

    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        kind: Kind = "internal",
        attributes: dict[Attribute, str | int] | None = None,
    ) -> AbstractContextManager[Span]:
        """A span below ``parent`` (a traceparent; None: the span of this thread, "": none), linked to others."""
        ...

    def here(self) -> str:
        """The traceparent of the span that is open in this thread or task; empty for none."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class _NoSpan:
    traceparent = ""

    def set(self, attribute: Attribute, value: str | int) -> None:
        """Nothing to set it on."""

    def rename(self, name: str) -> None:
        """Nothing to name."""


class _Off:
    """Traces nothing and costs nothing."""

    _span = _NoSpan()

    def span(self, *_: object, **__: object) -> AbstractContextManager[Span]:
        return nullcontext(self._span)

    def here(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing is left."""


OFF: Tracing = _Off()


def open_tracing(program: str, *, wanted: bool) -> Tracing:
    """Traces of ``program``, exported as the standard ``OTEL_*`` variables say; ``OFF`` unless wanted.

    Raises
    ------
    ImportError
        When the extra ``otel`` is not installed, naming it.
    """
    if not wanted:
        return OFF
    try:
        from reacquire.jobs.otel import exporting
    except ImportError as error:
        raise ImportError("REACQUIRE_TRACING needs OpenTelemetry: pip install 'reacquire[otel]'") from error
    return exporting(program)
