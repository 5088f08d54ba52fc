"""The worker's metrics and settings."""

import urllib.request

import pytest
from fakes import FakePipeline, orders
from prometheus_client import generate_latest
from pydantic import ValidationError

from reacquire.jobs import OperationSpec, new_job_id
from reacquire.jobs import metrics as names
from reacquire.jobs.leases import Leases
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner
from worker.settings import WorkerSettings


def test_metrics_tell_batches_waits_and_failures(store, blobs):
    metrics = WorkerMetrics()
    runner = Runner("w", FakePipeline(), store, blobs, Leases(store), BatchPolicy(8, 10**9), metrics, list)
    ids = []
    for what in ({}, {"fail": "degenerate-image"}, {"too_large": True}):
        job_id = new_job_id()
        store.create(job_id, OperationSpec(operation="segment"), blobs.put_inputs(job_id, [orders(**what)]))
        ids.append(job_id)
    runner.handle(ids)
    text = generate_latest(metrics.registry).decode()
    assert 'reacquire_batch_size_count{model="none",operation="segment"} 1.0' in text
    assert 'reacquire_queue_wait_seconds_count{model="none",operation="segment"} 3.0' in text
    assert 'reacquire_worker_failures_total{code="degenerate-image",operation="segment"} 1.0' in text
    assert 'reacquire_worker_failures_total{code="overloaded",operation="segment"} 1.0' in text
    assert 'reacquire_batch_compute_seconds_count{device="cpu",model="none",operation="segment"} 1.0' in text
    assert 'reacquire_items_total{operation="segment",outcome="succeeded"} 1.0' in text
    assert "reacquire_out_of_memory_total 3.0" in text, "three jobs, then two of them, then the one"


def test_metrics_can_be_scraped(unused_port):
    WorkerMetrics().serve("127.0.0.1", unused_port)
    with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/metrics", timeout=5) as answer:
        assert names.GPU_MEMORY.name in answer.read().decode()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("bad", [{"device": "tpu"}, {"batch_items": 0}, {"lease_s": 0}, {"no_such": 1}])
def test_unusable_settings_are_refused(bad):
    with pytest.raises(ValidationError):
        WorkerSettings(**bad)
