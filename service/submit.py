"""From a request to a queued job: the intake does the work; here it is counted and put on record.

Runs in a thread of the API process.
"""

from collections.abc import Callable
from dataclasses import replace

from reacquire.access import OPERATION_SCOPE, Principal
from reacquire.errors import OverloadedError
from reacquire.jobs.intake import Intake, Submission
from reacquire.jobs.record import BundleRef
from reacquire.trail import instance_mark
from service.context import Context
from service.doorkeeper import refusals_on_record, witness


def intake(context: Context) -> Intake:
    """The way into this process' store, for jobs that belong to nobody."""
    at = context.tracing.here()
    return Intake(context.store, context.blobs, context.publisher, context.vocabulary, context.limits, trace=at)


def submit(
    context: Context, caller: Principal, operation: str, bundle: BundleRef | None, enter: Callable[[Intake], Submission]
) -> Submission:
    """A job of a caller, who must have the operation's scope and a request left in this minute; on record either way.

    ``enter`` is handed the way in; its jobs run with ``bundle``, or with the active one.

    Raises
    ------
    AccessError
        ``forbidden`` or ``rate-limited``.
    OverloadedError
        ``not-ready`` when the audit trail can't be written.
    """
    with refusals_on_record(context.trail, caller.id, operation=operation):
        caller.require(OPERATION_SCOPE[operation])
        context.doorkeeper.spend(caller)
        way = replace(intake(context), owner=caller.id, concurrent=caller.concurrent, bundle=bundle)
        submission = enter(way)
    return counted(context, operation, submission, caller.id)


def _marks(context: Context, submission: Submission) -> tuple[str, ...]:
    secret = context.settings.trail_secret
    if secret is None or context.trail is None:
        return ()
    return tuple(instance_mark(secret.get_secret_value().encode(), uid) for uid in submission.instances)


def counted(context: Context, operation: str, submission: Submission, who: str) -> Submission:
    """The submission; a job that it created is counted and put on record.

    Raises
    ------
    OverloadedError
        ``not-ready`` when it can't be put on record; the job is taken back then, and its idempotency key is free.
    """
    if not submission.created:
        return submission
    marks = _marks(context, submission)
    try:
        witness(context.trail, "submit", who, job=submission.job_id, operation=operation, instances=marks)
    except OverloadedError:
        intake(context).take_back(submission.job_id)
        raise
    context.metrics.submitted.labels(operation).inc()
    return submission
