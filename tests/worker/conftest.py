"""The Redis fixtures, and a runner on a fake pipeline, for the tests of this folder."""

from collections.abc import Callable

import pytest
from fakes import FakePipeline, orders
from redis_fixture import blobs, config, quiet_structlog, redis_url, store

from reacquire.jobs import OperationSpec, new_job_id
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.leases import Leases
from reacquire.jobs.store import JobStore
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner

__all__ = ["blobs", "config", "pipeline", "quiet_structlog", "redis_url", "returned", "runner", "store", "submit"]


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def returned() -> list[str]:
    """Ids that the runner sent back to the queue."""
    return []


@pytest.fixture
def runner(store: JobStore, blobs: BlobStore, pipeline: FakePipeline, returned: list[str]) -> Runner:
    leases = Leases(store)
    policy = BatchPolicy(items=16, budget=16_000)
    return Runner("w", pipeline, store, blobs, leases, policy, WorkerMetrics(), returned.extend, progress_s=0.0)


@pytest.fixture
def submit(store: JobStore, blobs: BlobStore) -> Callable[..., str]:
    def enter(operation: str = "segment", **what) -> str:
        job_id = new_job_id()
        store.create(job_id, OperationSpec(operation=operation), blobs.put_inputs(job_id, [orders(**what)]))
        return job_id

    return enter
