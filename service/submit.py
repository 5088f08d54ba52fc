"""From a request to a queued job: the intake does the work; here it is counted. Runs in a thread of the API process."""

from dataclasses import replace

from reacquire.access import OPERATION_SCOPE, Principal
from reacquire.jobs.intake import Intake, Submission
from reacquire.jobs.record import BundleRef
from reacquire.trail import instance_mark
from service.context import Context
from service.doorkeeper import witness


def intake(context: Context) -> Intake:
    """The way into this process' store, for jobs that belong to nobody."""
    at = context.tracing.here()
    return Intake(context.store, context.blobs, context.publisher, context.vocabulary, context.limits, trace=at)


def intake_of(context: Context, caller: Principal, operation: str, bundle: BundleRef | None) -> Intake:
    """The way in for a caller, who must have the operation's scope and a request left in this minute.

    Its jobs run with ``bundle``, or with the active one.

    Raises
    ------
    AccessError
        ``forbidden`` or ``rate-limited``.
    """
    caller.require(OPERATION_SCOPE[operation])
    context.doorkeeper.spend(caller)
    return replace(intake(context), owner=caller.id, concurrent=caller.concurrent, bundle=bundle)


def _marks(context: Context, submission: Submission) -> tuple[str, ...]:
    secret = context.settings.trail_secret
    if secret is None or context.trail is None:
        return ()
    return tuple(instance_mark(secret.get_secret_value().encode(), uid) for uid in submission.instances)


def counted(context: Context, operation: str, submission: Submission, who: str) -> Submission:
    """The submission; a job that it created is counted and put on record."""
    if submission.created:
        context.metrics.submitted.labels(operation).inc()
        marks = _marks(context, submission)
        witness(context.trail, "submit", who, job=submission.job_id, operation=operation, instances=marks)
    return submission
