"""/jobs/{id}: status, result, artifacts, events, cancel, delete."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from reacquire.errors import JobError
from reacquire.jobs.record import JobRecord
from reacquire.trail import Event
from service.context import ContextDep
from service.doorkeeper import Caller, witness
from service.openapi import JOB_RESPONSES, RESULT_RESPONSES
from service.results import artifact_response, handed_out, within_reach
from service.schemas import Job, job_answer

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], responses=JOB_RESPONSES)


def _existing(job_id: str, context: ContextDep, caller: Caller) -> JobRecord:
    """The record, which for a caller who may not see it does not exist."""
    record = context.store.get(job_id)
    if not caller.may_see(record.owner):
        raise JobError("there is no such job; results are deleted after a while", code="job-not-found")
    return record


Existing = Annotated[JobRecord, Depends(_existing)]


@router.get("", summary="Where a job stands")
def status(record: Existing) -> Job:
    return job_answer(record)


@router.get("/result", responses=RESULT_RESPONSES, summary="What a job made, in the form that Accept asks for")
def result(request: Request, context: ContextDep, caller: Caller, record: Existing) -> Response:
    accept = request.headers.get("accept", "*/*")
    response = handed_out(context, caller, record, accept)
    if request.headers.get("if-none-match") == response.headers.get("etag", ""):
        return Response(status_code=304, headers={"ETag": response.headers["etag"]})
    return response


@router.get("/artifacts/{name}", responses=RESULT_RESPONSES, summary="One file of the result")
def artifact(name: str, context: ContextDep, caller: Caller, record: Existing) -> Response:
    for candidate in within_reach(record).artifacts:
        if candidate.name == name:
            witness(context.trail, "read", caller.id, job=record.id, operation=record.operation)
            return artifact_response(context, candidate)
    raise JobError("this job has no artifact of that name; its status lists them", code="job-not-found")


@router.get(
    "/events",
    response_class=EventSourceResponse,
    summary="The job's status after each change, as server-sent events",
)
async def events(
    context: ContextDep,
    record: Existing,
    last_event_id: Annotated[
        str | None, Header(description="id of the last event seen; older ones are skipped")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Each event holds the whole status, so a client that reconnects misses nothing that still matters."""
    seen = int(last_event_id) if last_event_id and last_event_id.isdigit() and len(last_event_id) < 16 else -1
    try:
        async for change in context.watcher.changes(record.id):
            if change.version > seen or change.finished:
                data = job_answer(change).model_dump(mode="json")
                yield ServerSentEvent(event=change.state, id=str(change.version), data=data)
    except JobError:  # deleted meanwhile; the stream has begun, so there is no status left to say it with
        yield ServerSentEvent(event="deleted", data={"id": record.id})


@router.post("/cancel", status_code=202, summary="Stop a job: at once when queued, between two steps when running")
def cancel(context: ContextDep, caller: Caller, record: Existing) -> Job:
    witness(context.trail, "cancel", caller.id, job=record.id, operation=record.operation)
    before = context.store.cancel(record.id)
    if before == "queued":
        event = Event(action="end", who=caller.id, job=record.id, operation=record.operation, outcome="cancelled")
        context.ends.record(event)
        context.blobs.drop_job(record.id)
    elif before not in ("running", "cancelled"):
        raise JobError("this job has already ended", code="job-finished")
    return job_answer(context.store.get(record.id))


@router.delete("", status_code=204, summary="Forget a job and everything it made; stops it when it runs")
def delete(context: ContextDep, caller: Caller, record: Existing) -> None:
    witness(context.trail, "delete", caller.id, job=record.id, operation=record.operation)
    context.store.delete(record.id)
    context.blobs.drop_job(record.id)  # if that fails, the reconciler does it
    context.store.dropped(record.id)
