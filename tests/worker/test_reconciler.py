"""What a crash leaves behind is put right: leases, lost messages, results past their time; and the heartbeat thread."""

import obstore.exceptions
import pytest
from fakes import orders

from reacquire.errors import JobError
from reacquire.jobs import OperationSpec, new_job_id
from reacquire.jobs import pulse as pulse_module
from reacquire.jobs.leases import Leases
from reacquire.jobs.presence import Presence, WorkerInfo
from reacquire.jobs.pulse import EXIT_STUCK, Pulse
from reacquire.jobs.reconciler import Reconciler
from reacquire.jobs.record import Claim

INFO = WorkerInfo("w1", "cpu", "fake", "0.1.0")


class FakePublisher:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.queued = 0

    def publish(self, ids, *, priority=6) -> None:
        self.sent.extend(ids)

    def waiting(self) -> int:
        return self.queued


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def reconciler(store, blobs, publisher) -> Reconciler:
    return Reconciler(store, Presence(store), publisher, blobs)


def enter(store, blobs) -> str:
    job_id = new_job_id()
    return store.create(job_id, OperationSpec(operation="segment"), blobs.put_inputs(job_id, [orders()]))[0].id


def test_a_silent_workers_job_is_sent_again(reconciler, store, blobs, publisher):
    job_id = enter(store, blobs)
    store.claim([job_id], "dead")
    store.client.zadd(store.key("running"), {job_id: 1})
    assert reconciler.tick("w1", 0.01)
    assert publisher.sent == [job_id]
    assert store.get(job_id).state == "queued"


def test_a_job_given_up_loses_its_files(reconciler, store, blobs, publisher):
    job_id = enter(store, blobs)
    for _ in range(store.config.max_attempts):
        store.claim([job_id], "dead")
        store.client.zadd(store.key("running"), {job_id: 1})
        while not reconciler.tick("w1", 0.001):
            pass
    assert store.get(job_id).state == "failed"
    assert store.get(job_id).failure.code == "job-failed"
    with pytest.raises(JobError):
        blobs.get(store.get(job_id).inputs[0])


def test_messages_prefetched_by_a_dead_worker_are_sent_again_whatever_waits(reconciler, store, blobs, publisher):
    job_id = enter(store, blobs)
    publisher.queued = 100
    Presence(store).beat(INFO)
    store.client.zadd(store.key("workers"), {"w1": 1})
    reconciler.tick("w2", 0.01)
    assert publisher.sent == [job_id]


def test_a_lost_message_is_sent_again_when_nothing_waits(store, blobs, publisher):
    store.config = store.config.model_copy(update={"republish_s": 1e-9})
    reconciler = Reconciler(store, Presence(store), publisher, blobs)
    job_id = enter(store, blobs)
    publisher.queued = 1
    reconciler._resend()
    assert publisher.sent == []
    publisher.queued = 0
    reconciler._resend()
    assert publisher.sent == [job_id]


def test_results_past_their_time_are_deleted(reconciler, store, blobs):
    job_id = enter(store, blobs)
    (claim,) = store.claim([job_id], "w")
    (artifact,) = blobs.put_artifacts(claim, {"a.dcm": b"abc"})
    store.succeed(claim, [artifact])
    store.client.zadd(store.key("finished"), {job_id: 1})
    reconciler.tick("w1", 0.01)
    assert store.get(job_id).state == "expired"
    with pytest.raises(JobError):
        blobs.get(artifact.key)


@pytest.mark.parametrize("end", ["expired", "deleted"])
def test_bytes_that_could_not_be_deleted_are_deleted_later(reconciler, store, blobs, monkeypatch, end):
    job_id = enter(store, blobs)
    (key,) = store.get(job_id).inputs
    if end == "deleted":
        store.delete(job_id)
    else:
        store.succeed(store.claim([job_id], "w")[0], [])
        store.client.zadd(store.key("finished"), {job_id: 1})

    def away(_):
        raise obstore.exceptions.GenericError("away")

    with monkeypatch.context() as outage, pytest.raises(obstore.exceptions.GenericError):
        outage.setattr(blobs, "_drop", away)
        reconciler.tick("w1", 0.001)
    assert blobs.get(key)
    while not reconciler.tick("w1", 0.001):
        pass
    with pytest.raises(JobError):
        blobs.get(key)
    assert store.to_drop() == []


def test_one_job_whose_message_fails_keeps_no_other_waiting(reconciler, store, blobs, publisher, monkeypatch):
    ids = [enter(store, blobs) for _ in range(3)]
    for job_id in ids:
        store.claim([job_id], "dead")
        store.client.zadd(store.key("running"), {job_id: 1})
    real, fails = publisher.publish, [1]
    monkeypatch.setattr(publisher, "publish", lambda *a, **k: fails.pop() / 0 if fails else real(*a, **k))
    reconciler._take_over()
    assert len(publisher.sent) == 2


@pytest.fixture
def pulse(config, store, reconciler, tmp_path) -> Pulse:
    return Pulse(
        config,
        INFO,
        presence=Presence(store),
        leases=Leases(store),
        reconciler=reconciler,
        measure=lambda: None,
        stage="compute",
        ready_file=tmp_path / "ready",
    )


def test_a_beat_announces_renews_and_touches_the_ready_file(pulse, store, blobs, tmp_path):
    (claim,) = store.claim([enter(store, blobs)], "w1")
    store.client.zadd(store.key("running"), {claim.id: 1})
    pulse._leases.add(claim)
    pulse.beat()
    assert Presence(store).alive()["w1"].busy == 1
    assert store.reap() == []
    assert (tmp_path / "ready").exists()
    pulse._stop_event.set()
    pulse.start()
    pulse.stop()
    assert Presence(store).alive() == {}
    assert not (tmp_path / "ready").exists()


def test_whoever_stops_leaves_nothing_to_its_lease(pulse, store, blobs, publisher):
    """Its claim, or its commit, may have been lost on the way: the store then counts more than it had in hand."""
    mine, others = enter(store, blobs), enter(store, blobs)
    store.claim([mine], "w1")
    store.claim([others], "w2")
    pulse._stop_event.set()
    pulse.start()
    pulse.stop()
    assert (store.get(mine).state, store.get(others).state) == ("queued", "running")
    assert publisher.sent == [mine]


def test_a_beat_survives_an_outage_of_one_step(pulse, store, monkeypatch):
    monkeypatch.setattr(pulse._leases, "renew", lambda: 1 / 0)
    pulse.beat()
    assert "w1" in Presence(store).alive()


def test_a_process_stuck_in_one_job_gives_itself_up(pulse, monkeypatch):
    ended = []
    monkeypatch.setattr(pulse_module.os, "_exit", ended.append)
    pulse._leases.add(Claim("0" * 32, 1))
    monkeypatch.setattr(pulse._leases, "_clock", lambda: 1e9)
    pulse.beat()
    assert ended == [EXIT_STUCK]


def test_a_worker_beside_which_jobs_wait_for_ever_gives_itself_up(pulse, store, blobs, monkeypatch):
    ended = []
    monkeypatch.setattr(pulse_module.os, "_exit", ended.append)
    pulse._leases._fed -= 1000
    pulse.beat()
    assert ended == [], "nothing waits"
    enter(store, blobs)
    pulse.beat()
    assert ended == [], "it has not waited for long"
    pulse._waiting_since -= 1000
    pulse.beat()
    assert ended == [EXIT_STUCK]
    pulse._leases.feed()
    pulse.beat()
    assert ended == [EXIT_STUCK], "messages have come"
