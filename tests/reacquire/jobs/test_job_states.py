"""The state table, and that the store's scripts do what it says in every state."""

import pytest

from reacquire.jobs import FINISHED, STATES, TERMINAL, TRANSITIONS, OperationSpec, new_job_id
from reacquire.jobs.record import Claim, Delivery, Failure, Refusal
from reacquire.jobs.states import EVENTS
from reacquire.jobs.store import JobStore

PATHS = {
    "queued": (),
    "running": ("claim",),
    "succeeded": ("claim", "succeed"),
    "partial": ("claim", "part"),
    "failed": ("claim", "fail"),
    "cancelled": ("cancel",),
    "expired": ("cancel", "expire"),
}


def apply(store: JobStore, job_id: str, event: str) -> None:
    """Make an event happen through the store's public methods."""
    claim = Claim(job_id, max(1, store.get(job_id).token))
    if event == "claim":
        store.claim([job_id], "worker")
    elif event == "cancel":
        store.cancel(job_id)
        store.acknowledge_cancel(claim)
    elif event == "requeue":
        store.release(claim)
    elif event == "succeed":
        store.succeed(claim, [])
    elif event == "part":
        store.succeed(claim, [], delivery=Delivery("pacs", 1, 0, (Refusal("a.dcm"),)))
    elif event == "advance":
        store.advance(claim, "deliver")
    elif event == "fail":
        store.fail(claim, Failure("internal-error", "test"))
    else:
        store.client.zadd(store.key("finished"), {job_id: 0}, xx=True)
        store.expire()


def test_every_state_but_queued_is_reached_by_some_event():
    assert set(TRANSITIONS.values()) == set(STATES)


def test_only_expiry_leads_out_of_terminal_states():
    assert {event for event, state in TRANSITIONS if state in TERMINAL} == {"expire"}
    assert {state for event, state in TRANSITIONS if event == "expire"} == FINISHED


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_the_store_follows_the_table(store, state, event):
    job_id = new_job_id()
    store.create(job_id, OperationSpec(operation="segment"), [])
    for step in PATHS[state]:
        apply(store, job_id, step)
    assert store.get(job_id).state == state

    apply(store, job_id, event)

    assert store.get(job_id).state == TRANSITIONS.get((event, state), state)
