"""The whole PACS loop as processes: Redis, API, a GPU worker's twin on the CPU, courier, SCP. All ended by pid."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from redis_fixture import redis_server

from examples.embedded import free_port

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "phantom-v1"
FINISHED = ("succeeded", "partial", "failed", "cancelled")


def until(condition: Callable[[], Any], seconds: float = 60.0, what: str = "it", *, every_s: float = 0.02) -> Any:
    """The first true value of ``condition``, asked ``every_s``."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(every_s)


@dataclass
class Stack:
    """Running processes, and what they were told."""

    folder: Path
    environment: Mapping[str, str]
    api_port: int
    scp_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)  # process -> port of its own metrics

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=60, verify=False)  # plain HTTP

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def start(self, name: str, *command: str, **more: str) -> None:
        """Start a process whose output goes to NAME.log; all but the API have metrics of their own."""
        if name != "service":
            self.metrics[name] = free_port()
            more["REACQUIRE_METRICS_PORT"] = str(self.metrics[name])
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=os.environ | self.environment | more,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        self.http.close()
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ready(self) -> None:
        """Wait until a job sent now would be worked on."""
        until(self._ready, 180, "readiness")

    def _ready(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended: {(self.folder / f'{name}.log').read_text()[-2000:]}"
        couriers = [name for name in ("courier", "scp") if name in self.processes]
        if not all((self.folder / f"{name}.ready").exists() for name in couriers):
            return False
        try:
            return all(check["ok"] for check in self.get("/readyz")["checks"])
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        return self.http.get(path, headers={"Accept": "application/json"}).json()

    def post(self, path: str, document: Mapping[str, Any], **headers: str) -> httpx.Response:
        return self.http.post(path, json=document, headers=headers)

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/jobs/{job_id}")
        return found

    def finished(self, job_id: str, seconds: float = 120) -> dict[str, Any]:
        """The job once it has ended."""

        def ended() -> dict[str, Any] | None:
            found = self.job(job_id)
            return found if found["status"] in FINISHED else None

        found: dict[str, Any] = until(ended, seconds, "the end of the job")
        return found


@contextmanager
def running(
    folder: Path,
    pacs: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    worker: tuple[str, ...] = ("-m", "worker"),
    api_port: int | None = None,
) -> Iterator[Stack]:
    """Every process of the loop, ready; ``pacs`` is the configuration file, ``secrets`` the variables it names."""
    folder.mkdir(parents=True, exist_ok=True)
    scp_port, api_port = free_port(), api_port or free_port()
    config = {**pacs, "scp": {"port": scp_port, "series_quiet_s": 1.5, "least_free_bytes": 0, **pacs.get("scp", {})}}
    (folder / "pacs.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(config))), encoding="utf-8")
    with redis_server() as redis:
        environment = {
            "REACQUIRE_REDIS_URL": redis.url,
            "REACQUIRE_BLOB_URL": (folder / "blobs").as_uri(),
            "REACQUIRE_PACS_CONFIG": str(folder / "pacs.yaml"),
            "REACQUIRE_LOG_LEVEL": "debug",
            "OMP_NUM_THREADS": "1",
            **secrets,
        }
        stack = Stack(folder, environment, api_port, scp_port)
        try:
            stack.start("worker", *worker, REACQUIRE_BUNDLE=str(BUNDLE), REACQUIRE_DEVICE="cpu")
            stack.start("service", "-m", "service", REACQUIRE_PORT=str(api_port))
            stack.start("courier", "-m", "gateway", REACQUIRE_READY_FILE=str(folder / "courier.ready"))
            stack.start(
                "scp", "-m", "gateway.scp",
                REACQUIRE_SPOOL=str(folder / "spool"), REACQUIRE_READY_FILE=str(folder / "scp.ready"),
            )  # fmt: skip
            stack.ready()
            yield stack
        finally:
            stack.stop()
