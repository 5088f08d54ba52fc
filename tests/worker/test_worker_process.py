"""Real worker processes over Celery and Redis, on the fake pipeline: batches, kill -9, orderly stop, refusals."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import orders
from redis_fixture import RedisServer, redis_server

from reacquire.jobs import TERMINAL, OperationSpec, new_job_id
from reacquire.jobs.broker import Publisher, celery_app
from reacquire.jobs.presence import Presence

ROOT = Path(__file__).resolve().parents[2]


def environment(config) -> dict[str, str]:
    return os.environ | {
        "REACQUIRE_REDIS_URL": config.redis_url.get_secret_value(),
        "REACQUIRE_BLOB_URL": config.blob_url,
        "REACQUIRE_KEY_PREFIX": config.key_prefix,
        "REACQUIRE_LEASE_S": "2",
        "REACQUIRE_WORKER_STALE_S": "2",
        "REACQUIRE_PROGRESS_S": "0.05",
    }


@pytest.fixture
def start(config, store) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a worker and waits for its heartbeat."""
    started: list[subprocess.Popen] = []

    def begin(**environ: str) -> subprocess.Popen:
        before = set(Presence(store).alive())
        with (Path(config.blob_url.removeprefix("file://")).parent / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes"], cwd=ROOT, env=environment(config) | environ, stderr=log
            )
        started.append(process)
        until(lambda: set(Presence(store).alive()) - before)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def submit(store, blobs, config) -> Callable[..., str]:
    publisher = Publisher(celery_app(config))

    def enter(**what) -> str:
        job_id = new_job_id()
        store.create(job_id, OperationSpec(operation="segment"), blobs.put_inputs(job_id, [orders(**what)]))
        publisher.publish([job_id])
        return job_id

    return enter


def test_jobs_that_wait_together_run_together(start, store, submit):
    ids = [submit() for _ in range(12)]
    start(REACQUIRE_FLUSH_S="1")  # on a busy machine they do not arrive within the default's 50 ms
    until(lambda: all(store.get(i).state == "succeeded" for i in ids))
    assert max(store.get(i).batch_size for i in ids) == 12


def test_a_killed_workers_jobs_are_taken_over_and_end_once(start, store, blobs, submit, tmp_path):
    victim = start()
    running = submit(steps=60, step_s=0.05)
    until(lambda: store.get(running).step > 1)
    prefetched = submit()  # fetched, or not, by a worker that is busy and about to die
    victim.kill()
    victim.wait()
    killed = time.monotonic()
    start()
    until(lambda: {store.get(running).state, store.get(prefetched).state} == {"succeeded"})
    assert time.monotonic() - killed < 60
    record = store.get(running)
    assert (record.attempts, record.token) == (2, 2)
    files = [p for p in (tmp_path / "blobs" / "jobs" / running).rglob("*") if p.is_file()]
    assert {p.parent.name for p in files} == {"2"}
    assert store.totals() == {("segment", "succeeded", "none"): 2}


def test_a_job_that_kills_every_worker_fails_in_the_end(start, store, submit):
    job_id = submit(die=True)
    for _ in range(store.config.max_attempts):
        process = start()
        process.wait(timeout=20)
    start()
    until(lambda: store.get(job_id).state == "failed")
    assert store.get(job_id).failure.code == "job-failed"


def test_a_stopping_worker_hands_over_between_two_steps(start, store, submit):
    process = start()
    job_id = submit(steps=100, step_s=0.05)
    until(lambda: store.get(job_id).step > 1)
    process.terminate()
    assert process.wait(timeout=10) == 0
    assert store.get(job_id).state == "queued"
    assert Presence(store).alive() == {}
    start()
    until(lambda: store.get(job_id).state in TERMINAL)
    assert (store.get(job_id).state, store.get(job_id).attempts) == ("succeeded", 1)


class TestRestartOfRedis:
    """celery/celery#8030, #8091, #9054: workers that look alive and consume nothing."""

    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with redis_server() as server:
            yield server

    @pytest.fixture
    def redis_url(self, server) -> str:
        return server.url

    def test_work_goes_on(self, server, start, store, submit):
        start()
        first = submit()
        until(lambda: store.get(first).state == "succeeded")
        server.kill()  # right after a batch, when celery-batches still has its timer running
        time.sleep(0.5)
        server.start()
        second = submit()
        until(lambda: store.get(second).state == "succeeded")

    def test_work_goes_on_when_a_full_batch_could_not_be_acknowledged(self, server, start, store, submit):
        start(REACQUIRE_BATCH_ITEMS="1")  # the one place of its prefetch window is this job's
        first = submit(steps=20, step_s=0.1)
        until(lambda: store.get(first).step > 1)
        server.kill()
        time.sleep(4)  # the job ends, and neither its end nor its acknowledgement gets through
        server.start()
        second = submit()
        until(lambda: {store.get(first).state, store.get(second).state} == {"succeeded"}, 30)


def test_an_unusable_setting_is_named_and_refused(config):
    env = environment(config) | {"REACQUIRE_LEASE_S": "never"}
    run = subprocess.run([sys.executable, "-m", "worker"], cwd=ROOT, env=env, capture_output=True, timeout=60)
    assert run.returncode == 2
    assert b"lease_s" in run.stderr


def test_a_bundle_that_is_not_there_is_named_and_refused(config, tmp_path):
    env = environment(config) | {"REACQUIRE_BUNDLE": str(tmp_path / "nothing-here")}
    run = subprocess.run([sys.executable, "-m", "worker"], cwd=ROOT, env=env, capture_output=True, timeout=120)
    assert run.returncode == 2
    assert b"nothing-here" in run.stderr
