"""From ids to commits on a fake pipeline: isolation, memory, cancel, drain, outages, stale claims."""

import threading
import time
from dataclasses import replace

import obstore.exceptions
import pytest
from fakes import ended_as

from reacquire.errors import JobError
from reacquire.jobs.store import JobStore, Reaped
from worker.memory import is_out_of_memory


def states(store: JobStore, ids: list[str]) -> list[str]:
    return [store.get(i).state for i in ids]


def test_a_job_ends_with_its_artifacts_and_without_its_input(runner, store, blobs, submit):
    job_id = submit()
    runner.handle([job_id])
    record = store.get(job_id)
    assert record.state == "succeeded"
    assert [a.name for a in record.artifacts] == ["segmentation-0001.dcm", "preview.png", "result.json"]
    assert blobs.get(record.artifacts[1].key).startswith(b"\x89PNG")
    with pytest.raises(JobError):
        blobs.get(record.inputs[0])
    assert runner.leases.held == ()


def test_jobs_of_one_key_share_a_batch_and_others_do_not(runner, store, pipeline, submit):
    ids = [submit(), submit("predict-iap"), submit(), submit("predict-iap"), submit()]
    runner.handle(ids)
    assert sorted(pipeline.batches) == [2, 3]
    assert store.get(ids[0]).batch_id == store.get(ids[4]).batch_id != store.get(ids[1]).batch_id


def test_the_budget_splits_a_flush(runner, pipeline, submit):
    runner.handle([submit(cost=6000) for _ in range(5)])
    assert pipeline.batches == [2, 2, 1]


def test_a_message_delivered_twice_runs_once(runner, pipeline, submit):
    job_id = submit()
    runner.handle([job_id, job_id])
    runner.handle([job_id])
    assert pipeline.batches == [1]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ({"refuse": "truncated-pixels"}, "truncated-pixels"),
        ({"fail": "degenerate-image"}, "degenerate-image"),
        ({"crash_prepare": "SECRET"}, "internal-error"),
        ({"crash": "SECRET"}, "internal-error"),
        ({"crash_finish": "SECRET"}, "internal-error"),
        ({"too_large": True}, "overloaded"),
    ],
)
def test_only_the_item_at_fault_fails(runner, store, submit, spoil, code):
    ids = [submit(), submit(**spoil), submit(), submit()]
    runner.handle(ids)
    assert states(store, ids) == ["succeeded", "failed", "succeeded", "succeeded"]
    failure = store.get(ids[1]).failure
    assert failure.code == code
    assert "SECRET" not in failure.detail


@pytest.mark.parametrize("spoil", [{"refuse": "truncated-pixels"}, {"crash_prepare": "x"}])
def test_a_job_that_fails_before_the_networks_counts_under_its_operation(runner, submit, spoil):
    runner.handle([submit("predict-iap", **spoil)])
    assert ended_as(runner) == {("predict-iap", "failed")}


def test_out_of_memory_halves_the_batch_until_it_fits(runner, store, pipeline, submit):
    pipeline.fits = 2
    ids = [submit() for _ in range(5)]
    runner.handle(ids)
    assert set(states(store, ids)) == {"succeeded"}
    assert pipeline.batches == [5, 2, 3, 1, 2]


def test_a_cancelled_item_leaves_between_steps_and_its_mates_go_on(runner, store, blobs, submit):
    ids = [submit(steps=40, step_s=0.02) for _ in range(3)]
    thread = threading.Thread(target=runner.handle, args=(ids,))
    thread.start()
    while store.get(ids[1]).step < 3:
        pass
    assert store.cancel(ids[1]) == "running"
    thread.join()
    assert states(store, ids) == ["succeeded", "cancelled", "succeeded"]
    assert store.get(ids[1]).step < 40
    assert store.get(ids[0]).step == store.get(ids[0]).steps == 40


def test_a_batch_of_cancelled_items_stops_early(runner, store, submit):
    job_id = submit(steps=1000, step_s=0.01)
    thread = threading.Thread(target=runner.handle, args=([job_id],))
    thread.start()
    while store.get(job_id).step < 2:
        pass
    store.cancel(job_id)
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert store.get(job_id).state == "cancelled"


def test_a_draining_worker_hands_its_jobs_back(runner, store, submit, returned):
    ids = [submit(steps=1000, step_s=0.01)]
    thread = threading.Thread(target=runner.handle, args=(ids,))
    thread.start()
    while store.get(ids[0]).step < 2:
        pass
    runner.leases.draining.set()
    thread.join(timeout=5)
    late = submit()
    runner.handle([late])
    assert returned == [*ids, late]
    assert states(store, [*ids, late]) == ["queued", "queued"]
    assert store.get(ids[0]).attempts == 0


def begun(runner, store, job_id) -> threading.Thread:
    """A thread that runs the job and has come to its second step."""
    thread = threading.Thread(target=runner.handle, args=([job_id],))
    thread.start()
    while store.get(job_id).step < 2:
        time.sleep(0.005)
    return thread


def test_a_job_deleted_meanwhile_leaves_no_file(runner, store, blobs, submit, tmp_path):
    job_id = submit(steps=20, step_s=0.02)
    thread = begun(runner, store, job_id)
    store.delete(job_id)
    blobs.drop_job(job_id)
    thread.join()
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_a_stale_claim_writes_no_second_result(runner, store, blobs, submit):
    job_id = submit(steps=20, step_s=0.02)
    thread = begun(runner, store, job_id)
    reaped: list[Reaped] = []
    while not reaped and thread.is_alive():  # a sign of life of the worker may come in between
        store.client.zadd(store.key("running"), {job_id: 1})
        reaped = store.reap()
    assert reaped == [Reaped(job_id, "queued", "compute")]
    (fresh,) = store.claim([job_id], "other")
    thread.join()
    assert store.get(job_id).state == "running"
    result = blobs.put_artifacts(fresh, {"a.dcm": b"only one"})
    assert store.succeed(fresh, result) == "succeeded"
    assert store.get(job_id).artifacts == tuple(result)


def test_files_of_a_run_that_died_before_its_commit_are_gone_after_the_next(runner, store, blobs, submit, tmp_path):
    job_id = submit()
    (dead,) = store.claim([job_id], "dead")
    blobs.put_artifacts(dead, {"a.dcm": b"never committed"})
    store.client.zadd(store.key("running"), {job_id: 1})
    store.reap()
    runner.handle([job_id])
    kept = {artifact.key for artifact in store.get(job_id).artifacts}
    written = (path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    assert {path.relative_to(tmp_path / "blobs").as_posix() for path in written} == kept


def away(*_, **__):
    raise obstore.exceptions.GenericError("away")


@pytest.mark.parametrize("way", ["get", "put_artifacts"])
def test_a_storage_that_is_away_costs_no_attempt(runner, store, blobs, submit, monkeypatch, way):
    job_id = submit()
    with monkeypatch.context() as outage:
        outage.setattr(blobs, way, away)
        for _ in range(2 * store.config.max_attempts):
            runner.handle([job_id])
            assert (store.get(job_id).state, runner.leases.held) == ("queued", ())
    assert store.stale(0) == [job_id], "the reconciler sends it again"
    runner.handle([job_id])
    record = store.get(job_id)
    assert (record.state, record.attempts) == ("succeeded", 1)


def test_patience_with_the_storage_ends(runner, store, blobs, submit, monkeypatch):
    job_id = submit()
    monkeypatch.setattr(blobs, "get", away)
    impatient = replace(runner, patience_s=0.2)
    impatient.handle([job_id])
    assert store.get(job_id).state == "queued", "the first trouble fails nobody"
    time.sleep(0.25)
    impatient.handle([job_id])
    record = store.get(job_id)
    assert (record.state, record.failure.code) == ("failed", "not-ready")


def test_patience_does_not_shield_a_job_that_kills_its_workers(runner, store, blobs, submit, monkeypatch):
    job_id = submit()
    with monkeypatch.context() as outage:
        outage.setattr(blobs, "get", away)
        runner.handle([job_id])
    for _ in range(store.config.max_attempts):
        store.claim([job_id], "doomed")
        store.client.zadd(store.key("running"), {job_id: 1})  # its lease ran out
        store.reap()
    assert (store.get(job_id).state, store.get(job_id).failure.code) == ("failed", "job-failed")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error, expected):
    assert is_out_of_memory(error) is expected
