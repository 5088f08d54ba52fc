"""The life of a job as a table: states, stages, events, and which event leads from which state to which.

The store compiles this very table into its Redis scripts, so that no second copy of the rules exists. What a state
means to a client (status codes, links) belongs to the service.
"""

from collections.abc import Mapping
from typing import Literal, get_args

State = Literal["queued", "running", "succeeded", "partial", "failed", "cancelled", "expired"]
Event = Literal["claim", "requeue", "advance", "succeed", "part", "fail", "cancel", "expire"]
Stage = Literal["fetch", "compute", "deliver"]

STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)
STAGES: tuple[Stage, ...] = get_args(Stage)
COURIER_STAGES: frozenset[Stage] = frozenset({"fetch", "deliver"})  # the rest is done by workers

TRANSITIONS: Mapping[tuple[Event, State], State] = {
    # A worker takes the job: it gets a lease and a fencing token one higher than any before.
    ("claim", "queued"): "running",
    # The lease ran out (worker killed) or the worker is shutting down: another one may claim it.
    ("requeue", "running"): "queued",
    # One stage is done, the next one waits for whoever does it: inputs or artifacts were committed with it.
    ("advance", "running"): "queued",
    # The commit of a result; only the holder of the current token may do it.
    ("succeed", "running"): "succeeded",
    # The commit of a result of which the PACS did not take every instance.
    ("part", "running"): "partial",
    # The commit of an error, by the holder of the token or by the reconciler after the last attempt.
    ("fail", "running"): "failed",
    # Nobody works on it yet: cancelled at once.
    ("cancel", "queued"): "cancelled",
    # Asked for by a flag; this event happens when the worker lets go of it, between two denoising steps.
    ("cancel", "running"): "cancelled",
    # The time to live of a finished job is over: its artifacts are gone, only the fact remains.
    ("expire", "succeeded"): "expired",
    ("expire", "partial"): "expired",
    ("expire", "failed"): "expired",
    ("expire", "cancelled"): "expired",
}

WITH_RESULT: frozenset[State] = frozenset({"succeeded", "partial"})
FINISHED: frozenset[State] = WITH_RESULT | {"failed", "cancelled"}
TERMINAL: frozenset[State] = FINISHED | {"expired"}  # no event but ``expire`` leads out of these
