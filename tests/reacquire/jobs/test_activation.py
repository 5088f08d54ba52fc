"""The activation record: one switch between two jobs, two activations at once, and what becomes of a failed one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from reacquire.errors import BundleError
from reacquire.jobs import BundleRef, OperationSpec, RouteSpec, new_job_id
from reacquire.jobs.activation import Activations
from reacquire.jobs.presence import Presence, WorkerInfo
from reacquire.jobs.store import JobStore, Plan
from reacquire.jobs.switch import Switch

A, B, C = (BundleRef(name, "1.0.0", name * 64) for name in "abc")
SEGMENT = OperationSpec(operation="segment")
WORKER = WorkerInfo("w1", "cpu", "a-1.0.0", "0")


@pytest.fixture
def activations(store: JobStore) -> Activations:
    return Activations(store)


def enter(store: JobStore, spec: OperationSpec | RouteSpec = SEGMENT, **plan) -> str:
    return store.create(new_job_id(), spec, [], plan=Plan(**plan))[0].id


def switch(store: JobStore, **how) -> Switch:
    return Switch(Activations(store), Presence(store), patience_s=0.3, poll_s=0.01, **how)


def serve(store: JobStore, *bundles: BundleRef, **what) -> None:
    """A worker's heartbeat, with these bundles warm."""
    Presence(store).beat(replace(WORKER, warm={b.sha256: b.label for b in bundles}, **what))


def test_a_job_keeps_the_bundle_it_was_accepted_under(store, activations):
    before = enter(store)
    activations.establish(A)
    first, pinned = enter(store), enter(store, bundle=C)
    activations.commit(activations.propose(B, patience_s=10))
    second = enter(store)
    store.claim([before, first, pinned, second], "w")
    assert [store.get(i).bundle for i in (first, pinned, second)] == [A, C, B]
    assert store.get(before).bundle == B  # none was active when it came, so its first claim decided, for good
    activations.commit(activations.propose(A, patience_s=10))
    assert store.get(before).bundle == B


def test_a_job_of_the_rules_has_no_bundle(store, activations):
    activations.establish(A)
    assert store.get(enter(store, RouteSpec(), stage="fetch")).bundle is None
    assert store.get(enter(store, stage="fetch")).bundle == A


def test_a_workers_own_bundle_yields_to_an_operators_choice(activations):
    assert activations.establish(A)
    assert activations.establish(B)  # a changed deployment
    activations.commit(activations.propose(A, patience_s=10))
    assert not activations.establish(B)
    state = activations.read()
    assert (state.active, state.previous, state.explicit) == (A, B, True)


def test_of_two_activations_at_once_one_wins_and_the_other_is_told(store, activations):
    activations.establish(A)
    serve(store, A, B, C)

    def attempt(bundle: BundleRef) -> str:
        try:
            switch(store).activate(bundle)
        except BundleError as error:
            assert error.code == "activation-failed"
            return "told"
        return bundle.name

    token = activations.propose(B, patience_s=10)
    assert attempt(C) == "told"
    activations.commit(token)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, [A, C] * 8))
    state = activations.read()
    won = [name for name in outcomes if name != "told"]
    assert won
    assert state.active in (A, C)
    assert state.candidate is None
    assert state.revision == 2 + len(won)


def test_an_activation_from_which_nothing_is_heard_lapses(activations):
    late = activations.propose(B, patience_s=0)
    token = activations.propose(C, patience_s=10)
    with pytest.raises(BundleError, match="took too long"):
        activations.commit(late)
    activations.withdraw(late)  # not its own any more
    activations.commit(token)
    assert activations.read().active == C


def test_a_switch_in_between_stops_an_activation(activations):
    token = activations.propose(B, patience_s=10)
    activations.establish(A)
    with pytest.raises(BundleError, match="another bundle became active"):
        activations.commit(token)
    assert activations.read().active == A


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        ({}, "no worker is alive"),
        ({"bundles": [A]}, "1 of 1 workers have not warmed b@1.0.0 up in 0.3 s"),
        ({"bundles": [A], "fails": True}, "could not warm b@1.0.0 up: no memory"),
    ],
    ids=["nobody", "late", "failed"],
)
def test_a_bundle_that_is_not_warm_everywhere_is_not_activated(store, activations, heard, why):
    activations.establish(A)

    def during(_: float) -> None:
        if heard:
            failed = activations.read().token if heard.get("fails") else ""
            serve(store, *heard["bundles"], failed=failed, reason="no memory")

    during(0)
    with pytest.raises(BundleError, match=why):
        switch(store, sleep=during).activate(B)
    state = activations.read()
    assert (state.active, state.candidate) == (A, None)


def test_an_old_failure_does_not_count(store, activations):
    activations.establish(A)
    serve(store, A, B, failed="0123", reason="long ago")
    switch(store).activate(B)
    assert activations.read().active == B


def test_rolling_back_leads_to_the_bundle_before_and_forth_again(store, activations):
    activations.establish(A)
    serve(store, A, B)
    with pytest.raises(BundleError, match="no bundle was active before"):
        switch(store).rollback()
    switch(store).activate(B)
    assert switch(store).rollback() == A
    assert activations.read().active == A
    assert switch(store).rollback() == B


def test_without_workers_a_cold_switch_is_possible(store, activations):
    switch(store, cold=True).activate(B)
    assert activations.read().active == B


def test_a_heartbeat_of_a_newer_version_is_understood(store):
    presence = Presence(store)
    serve(store, A)
    info = store.key("worker-info")
    store.client.hset(info, "w1", store.client.hget(info, "w1").replace("{", '{"surprise": 1, ', 1))
    assert presence.alive()["w1"].warm == {A.sha256: A.label}
