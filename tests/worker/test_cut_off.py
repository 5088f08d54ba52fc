"""Redis goes away between a transaction and its answer, or before it: nothing is lost, done twice or deleted."""

import obstore.exceptions
import redis
from fakes import ended_as, orders

from reacquire.jobs import OperationSpec, new_job_id
from reacquire.jobs.endings import Endings
from reacquire.jobs.leases import Leases
from reacquire.jobs.record import Delivery
from reacquire.jobs.store import Plan
from worker.runner import Runner


def unreachable(*_, **__):
    raise redis.ConnectionError("down")


def answer_lost(call, times=1):
    """``call`` does what it does, but whoever asked is cut off before the answer, as often as that."""
    left = [times]

    def cut_off(*args, **kwargs):
        answer = call(*args, **kwargs)
        if left[0] == 0:
            return answer
        left[0] -= 1
        raise redis.ConnectionError("cut off")

    return cut_off


def stopped_meanwhile(runner: Runner, tries: list[int]):
    """A commit that can't reach Redis, and at the third try the worker is told to stop."""

    def commit(*_, **__):
        tries.append(1)
        if len(tries) == 3:
            runner.leases.draining.set()
        return unreachable()

    return commit


def test_a_process_that_stops_in_an_outage_leaves_its_jobs_to_their_leases(runner, store, submit, monkeypatch):
    ids, tries = [submit() for _ in range(4)], []
    monkeypatch.setattr(store, "succeed", stopped_meanwhile(runner, tries))
    runner.handle(ids)
    assert {store.get(i).state for i in ids} == {"running"}
    assert runner.leases.held == ()
    assert len(tries) == 3, "each further claim could wait for a time-out of its own"


def test_a_commit_is_tried_until_redis_is_back(runner, store, submit, monkeypatch):
    job_id = submit()
    real, tries = store.succeed, []

    def later(*args, **kwargs):
        tries.append(1)
        return unreachable() if len(tries) < 3 else real(*args, **kwargs)

    monkeypatch.setattr(store, "succeed", later)
    runner.handle([job_id])
    assert (store.get(job_id).state, store.get(job_id).attempts, len(tries)) == ("succeeded", 1, 3)


def test_a_commit_whose_answer_was_lost_keeps_its_result(runner, store, blobs, submit, monkeypatch):
    job_id = submit()
    monkeypatch.setattr(store, "succeed", answer_lost(store.succeed, times=2))
    runner.handle([job_id])
    record = store.get(job_id)
    assert record.state == "succeeded"
    assert all(blobs.get(artifact.key) for artifact in record.artifacts)
    assert ended_as(runner) == {("segment", "succeeded")}
    assert list(store.totals().values()) == [1]


def test_a_stage_whose_answer_was_lost_keeps_what_the_courier_has_made_of_it_since(runner, store, blobs, monkeypatch):
    """The worker commits, is cut off, and asks again when others have had the job: it must not delete their files."""
    for end in ("succeed", "give_back"):
        job_id = new_job_id()
        plan = Plan(deliver_to="pacs")
        store.create(job_id, OperationSpec(operation="segment"), blobs.put_inputs(job_id, [orders()]), plan=plan)
        courier = Endings(store, blobs, Leases(store), lambda _: None, lambda *_: None)
        real = store.advance

        def advance(*args, end=end, courier=courier, real=real, **kwargs):
            answer = real(*args, **kwargs)
            for claim in store.take("courier", 1):  # at the first call only
                if end == "give_back":
                    courier.give_back(claim, "segment", delay_s=60, wake=False)
                else:
                    courier.succeed(claim, "segment", store.get(claim.id).artifacts, delivery=Delivery("pacs", 1, 1))
                unreachable()
            return answer

        with monkeypatch.context() as cut:
            cut.setattr(store, "advance", advance)
            runner.handle([job_id])
        record = store.get(job_id)
        assert (record.state, record.stage) == ("succeeded" if end == "succeed" else "queued", "deliver")
        assert all(blobs.get(artifact.key) for artifact in record.artifacts)
        assert len(record.artifacts) == 3


def test_inputs_fetched_by_a_courier_that_was_cut_off_stay(store, blobs, monkeypatch):
    job_id = new_job_id()
    store.create(job_id, OperationSpec(operation="segment"), [], plan=Plan(stage="fetch"))
    courier = Endings(store, blobs, Leases(store), lambda _: None, lambda *_: None)
    (claim,) = store.take("courier", 1)
    key = blobs.put_fetched(claim, 0, b"slice")

    def taken_and_put_back(*args, commit=store.advance, **kwargs):
        answer = commit(*args, **kwargs)
        for other in store.claim([job_id], "worker"):
            store.release(other)
        return answer

    monkeypatch.setattr(store, "advance", answer_lost(taken_and_put_back))
    courier.advance(claim, "segment", "compute", inputs=[key])
    assert (store.get(job_id).state, store.get(job_id).stage) == ("queued", "compute")
    assert blobs.get(key) == b"slice"


def test_a_claim_whose_answer_was_lost_goes_to_others_with_the_next_messages(runner, store, submit, monkeypatch):
    job_id, other = submit(), submit()
    with monkeypatch.context() as cut:
        cut.setattr(store, "claim", answer_lost(store.claim))
        runner.handle([job_id])
    assert (store.get(job_id).state, store.reap()) == ("running", [])
    runner.handle([other])
    assert [job.id for job in store.reap()] == [job_id]
    assert store.get(other).state == "succeeded"


def storage_away(*_):
    raise obstore.exceptions.GenericError("away")


def test_storage_and_store_away_at_once_leave_the_job_to_its_lease(runner, store, blobs, submit, monkeypatch):
    job_id = submit()
    monkeypatch.setattr(blobs, "get", storage_away)
    with monkeypatch.context() as outage:
        outage.setattr(store, "release", stopped_meanwhile(runner, []))
        runner.handle([job_id])
    assert (store.get(job_id).state, runner.leases.held) == ("running", ())
