"""One trace from request to result, a batch linked to the traces of its jobs, and nothing of a patient in them."""

import logging
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from builders import SECRET
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reacquire.jobs.otel import OtelTracing
from reacquire.jobs.tracing import ATTRIBUTES, OFF, open_tracing

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def traced(app, spans):
    """API and worker of this process, traced into one list."""
    tracing = OtelTracing("test", SimpleSpanProcessor(spans))
    publisher = app.state.context.publisher
    publisher._runner = replace(publisher._runner, tracing=tracing)
    app.state.context = replace(app.state.context, tracing=tracing)
    return app


def by_name(spans):
    found = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def trace_of(span):
    return f"{span.context.trace_id:032x}"


def test_a_jobs_spans_are_in_the_trace_of_its_request_and_the_batch_is_linked(traced, client, spans, slice_, store):
    answer = client.post("/v1/segment", files={"dicom": slice_}, headers={"traceparent": CLIENT, "Prefer": "wait=10"})
    assert answer.status_code == 200
    record = store.get(answer.headers["Location"].rsplit("/", 1)[1])
    traced.state.context.publisher.close()
    found = by_name(spans)
    (request,), (prepare,), (finish,), (batch,) = (found[n] for n in ("POST /segment", "prepare", "finish", "batch"))
    assert {trace_of(s) for s in (request, prepare, finish)} == {CLIENT.split("-")[1]}
    assert f"{request.parent.span_id:016x}" == CLIENT.split("-")[2]
    assert record.trace.split("-")[2] == f"{prepare.parent.span_id:016x}" == f"{request.context.span_id:016x}"
    assert trace_of(batch) != trace_of(request) and batch.parent is None
    assert [trace_of_link(link) for link in batch.links] == [CLIENT.split("-")[1]]
    assert [link.context.span_id for link in finish.links] == [batch.context.span_id]
    assert prepare.attributes["reacquire.job.id"] == record.id


def trace_of_link(link):
    return f"{link.context.trace_id:032x}"


def test_a_shared_batch_has_a_link_to_each_job(traced, client, spans, slice_, pause):
    pause()
    jobs = [
        client.post("/v1/segment", files={"dicom": slice_}, headers={"Prefer": "respond-async"}).json()["id"]
        for _ in range(3)
    ]
    traced.state.context.publisher._runner.handle(jobs)
    (batch,) = by_name(spans)["batch"]
    requests = {s.context.trace_id for s in by_name(spans)["POST /segment"]}
    assert len(requests) == 3
    assert {link.context.trace_id for link in batch.links} == requests
    assert batch.attributes["reacquire.batch.size"] == 3


def test_log_lines_bear_the_trace(traced, client, spans, slice_, caplog):
    caplog.set_level(logging.INFO)
    client.post("/v1/segment", files={"dicom": slice_}, headers={"traceparent": CLIENT, "Prefer": "wait=10"})

    def missing():
        lines = [r.getMessage() for r in caplog.records if CLIENT.split("-")[1] in r.getMessage()]
        return [what for what in ("job accepted", "job left", '"request"') if not any(what in line for line in lines)]

    deadline = time.monotonic() + 5
    while missing() and time.monotonic() < deadline:  # the line of a request follows its answer
        time.sleep(0.01)
    assert missing() == []


def test_no_span_tells_of_the_patient_or_of_what_a_client_made_up(traced, client, spans, slice_):
    """The contract: names and attributes from closed lists, no header value, UID, file name, query or foreign text."""
    headers = {"traceparent": CLIENT, "tracestate": f"a={SECRET}", "baggage": f"b={SECRET}", "Prefer": "wait=10"}
    client.post("/v1/segment", files={"dicom": (f"{SECRET}.dcm", slice_)}, headers=headers)
    client.post(f"/v1/segment?{SECRET}=1", files={"dicom": (f"{SECRET}.dcm", b"no DICOM")}, headers=headers)
    client.get(f"/v1/jobs/{SECRET}", headers={"traceparent": SECRET})
    client.request(SECRET, "/livez")
    client.get(f"/{SECRET}")
    traced.state.context.publisher.close()
    found = spans.get_finished_spans()
    assert len(found) > 6
    for span in found:
        assert set(span.attributes) <= ATTRIBUTES
        assert not span.events and not span.context.trace_state
        assert SECRET not in span.to_json() and "1.2." not in str(dict(span.attributes)), span.name


def test_an_error_leaves_its_class_and_not_its_text(spans):
    tracing = OtelTracing("test", SimpleSpanProcessor(spans))
    with pytest.raises(ValueError, match=SECRET), tracing.span("prepare", parent=""):
        raise ValueError(SECRET)
    (span,) = spans.get_finished_spans()
    assert span.attributes["error.type"] == "ValueError"
    assert SECRET not in span.to_json()


def test_an_attribute_that_is_not_on_the_list_is_a_fault(spans):
    tracing = OtelTracing("test", SimpleSpanProcessor(spans))
    with pytest.raises(ValueError, match="not an attribute"), tracing.span("x", attributes={"PatientName": "a"}):
        pass


def test_off_imports_nothing_and_carries_nothing(client, slice_, store):
    job = client.post("/v1/segment", files={"dicom": slice_}, headers={"traceparent": CLIENT}).headers["Location"]
    assert store.get(job.rsplit("/", 1)[1]).trace == ""
    assert open_tracing("service", wanted=False) is OFF
    code = (
        "import sys, service.app, worker.app, gateway.courier; from service.settings import ServiceSettings\n"
        "service.app.create_app(ServiceSettings(blob_url='memory:///'))\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.exporter', 'reacquire.jobs.otel'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "[]", run.stderr


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reacquire.jobs.otel", None)
    with pytest.raises(ImportError, match=r"reacquire\[otel\]"):
        open_tracing("service", wanted=True)
