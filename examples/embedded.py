"""The embedded stack as a context: ``reacquire serve`` on a free port, ready, and stopped at the end."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

READY_WITHIN_S = 180.0  # importing torch takes a minute on a machine that is busy otherwise
PROGRAM = Path(sys.executable).with_name("reacquire")


@dataclass(frozen=True)
class Served:
    """A running stack: a client with its base address, the process, and the seconds it took to become ready."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    ready_s: float


@contextmanager
def embedded(*options: str, program: Path = PROGRAM, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Start ``reacquire serve`` with ``options``; API, worker and a private Redis end with the context."""
    port = free_port()
    started = time.monotonic()
    command, url = [str(program), "serve", "--port", str(port), *options], f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env=env) as process, httpx.Client(base_url=url, timeout=120) as client:
        try:
            _wait_until_ready(client, process)
            yield Served(client, process, time.monotonic() - started)
        finally:
            process.terminate()
            process.wait(timeout=40)


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"reacquire serve ended with status {process.returncode}")
        with suppress(httpx.TransportError):
            if all(check["ok"] for check in client.get("/readyz").json()["checks"]):
                return
        time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {READY_WITHIN_S:.0f} s")


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
