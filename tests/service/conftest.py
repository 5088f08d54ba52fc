"""The API on a real Redis, with the worker's own runner on a fake pipeline in place of Celery."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from builders import make_mr
from fakes import FakePipeline
from fastapi import FastAPI
from redis_fixture import blobs, config, quiet_structlog, redis_url, store

from reacquire.jobs.leases import Leases
from reacquire.jobs.presence import Presence, WorkerInfo
from service.app import create_app
from service.servers import outer_server
from service.settings import ServiceSettings
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner

__all__ = ["blobs", "config", "quiet_structlog", "redis_url", "store"]


class DirectPublisher:
    """Hands ids to a runner on a thread of its own; ``paused`` keeps them, as a busy worker would."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._pool = ThreadPoolExecutor(1)
        self.paused = False

    def publish(self, ids: Iterable[str], *, priority: int = 6) -> None:
        if not self.paused:
            self._pool.submit(self._runner.handle, list(ids))

    def close(self) -> None:
        self._pool.shutdown(wait=True)


@pytest.fixture
def settings(config, tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(**config.model_dump(), max_body_bytes=2**20, bundles_root=tmp_path / "bundles")


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def app(settings: ServiceSettings, store, blobs, pipeline: FakePipeline) -> Iterator[FastAPI]:
    app = create_app(settings)
    policy = BatchPolicy(items=8, budget=10**9)
    runner = Runner("w", pipeline, store, blobs, Leases(store), policy, WorkerMetrics(), list, progress_s=0.0)
    publisher = DirectPublisher(runner)
    app.state.context = replace(app.state.context, publisher=publisher)
    Presence(store).beat(WorkerInfo("w", "cpu", "fake", "0"))
    yield app
    publisher.close()
    app.state.context.store.client.close()


@contextmanager
def listening(server: uvicorn.Server) -> Iterator[httpx.Client]:
    """A client of a server that runs in a thread of this process."""
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the API on uvicorn's own terms."""
    with listening(uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))) as client:
        yield client


@pytest.fixture
def served(app: FastAPI, settings: ServiceSettings) -> Iterator[httpx.Client]:
    """A client of the API on the terms of the real process."""
    with listening(outer_server(app, settings.model_copy(update={"port": 0}))) as client:
        yield client


@pytest.fixture
def pause(app: FastAPI) -> Callable[[], None]:
    """From here on jobs stay queued."""

    def stop() -> None:
        app.state.context.publisher.paused = True

    return stop


@pytest.fixture(scope="session")
def slice_() -> bytes:
    """A sound MR slice; every identifying value of its header contains ``builders.SECRET``."""
    return make_mr()
