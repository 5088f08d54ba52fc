"""Every end of a job stands in the audit trail, whoever ended it, with the model that ran, and once."""

import json
from dataclasses import dataclass, replace

import pytest
from fakes import FakePipeline, orders

from reacquire.jobs import JobsConfig, OperationSpec, new_job_id
from reacquire.jobs.ends import EndWitness, open_trail
from reacquire.jobs.leases import Leases
from reacquire.jobs.presence import Presence
from reacquire.jobs.reconciler import Reconciler
from reacquire.jobs.store import JobStore
from reacquire.trail import Trail, verify_folder
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner

SHA = "5" * 64


@dataclass(frozen=True)
class Bundle:
    name: str = "tiny"
    version: str = "1.0.0"
    sha256: str = SHA


class Loaded(FakePipeline):
    bundle = Bundle()


@pytest.fixture
def witness(tmp_path):
    return EndWitness(Trail(tmp_path / "trail", "worker"), "worker-1")


@pytest.fixture
def runner(store, blobs, witness):
    policy, metrics = BatchPolicy(8, 10**9), WorkerMetrics()
    return Runner("worker-1", Loaded(), store, blobs, Leases(store), policy, metrics, list, witness=witness)


def enter(store, blobs, **what):
    job_id = new_job_id()
    store.create(job_id, OperationSpec(operation="segment"), blobs.put_inputs(job_id, [orders(**what)]))
    return job_id


def events(tmp_path):
    lines = [line for path in (tmp_path / "trail").iterdir() for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_success_and_failure_are_told_with_the_model_and_the_worker(runner, store, blobs, tmp_path):
    good, bad, unread = (enter(store, blobs, **w) for w in ({}, {"fail": "no-pixels"}, {"refuse": "corrupt-pixels"}))
    runner.handle([good, bad, unread, good])
    found = {e["job"]: (e["outcome"], e.get("code"), e.get("model"), e["who"]) for e in events(tmp_path)}
    assert len(events(tmp_path)) == 3
    assert found == {
        good: ("succeeded", None, SHA, "worker-1"),
        bad: ("failed", "no-pixels", SHA, "worker-1"),
        unread: ("failed", "corrupt-pixels", None, "worker-1"),
    }
    assert [broken for _, _, broken in verify_folder(tmp_path / "trail")] == [[]]


def test_what_was_only_given_back_did_not_end(runner, store, blobs, tmp_path):
    job_id = enter(store, blobs)
    (claim,) = store.claim([job_id], "worker-1")
    runner.endings.give_back(claim, "segment")
    runner.endings.lose(claim, "segment")
    assert events(tmp_path) == []


def test_what_the_reconciler_ends_is_told(store: JobStore, blobs, witness, tmp_path, config: JobsConfig):
    hasty = JobStore(
        store.client, config.model_copy(update={"lease_s": 0.001, "max_attempts": 1, "result_ttl_s": 0.001})
    )
    job_id = enter(hasty, blobs)
    assert hasty.claim([job_id], "dead")
    reconciler = Reconciler(hasty, Presence(hasty), Silent(), blobs, witness)
    while store.get(job_id).state != "expired":
        reconciler.tick("worker-1", 0.001)
    assert [(e["outcome"], e.get("code")) for e in events(tmp_path)] == [("failed", "job-failed"), ("expired", None)]


class Silent:
    def publish(self, ids, **_):
        """Nobody listens."""

    def waiting(self):
        return 0


def test_a_line_that_cannot_be_written_waits(runner, store, blobs, witness, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    job_id = enter(store, blobs)
    with monkeypatch.context() as broken:
        broken.setattr(Trail, "record", full)
        runner.handle([job_id])
    assert (store.get(job_id).state, witness.waiting) == ("succeeded", 1), "the job is not lost for it"
    witness.flush()
    assert ([e["job"] for e in events(tmp_path)], witness.waiting) == ([job_id], 0)


def test_a_process_that_cannot_keep_its_trail_does_not_start(config: JobsConfig, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        open_trail(config.model_copy(update={"trail_dir": tmp_path / "file" / "trail"}), "worker")
    assert open_trail(config, "worker") is None


def test_a_long_host_name_fits(runner, store, blobs, witness, tmp_path):
    job_id = enter(store, blobs)
    replace(runner, witness=EndWitness(witness.trail, "w" * 80 + "-4711")).handle([job_id])
    assert events(tmp_path)[0]["who"].endswith("-4711")
