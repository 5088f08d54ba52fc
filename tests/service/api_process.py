"""The API as the process that is shipped, for what only a process shows: its ports, its memory, how it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from examples.embedded import free_port

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def process(redis_url, tmp_path, **more):
    """An API process and its address. It must end with status 0 on SIGTERM."""
    port = free_port()
    told = {"REACQUIRE_PORT": port, "REACQUIRE_REDIS_URL": redis_url, "REACQUIRE_BLOB_URL": (tmp_path / "b").as_uri()}
    environment = os.environ | {k: str(v) for k, v in (told | more).items()}
    with (tmp_path / "api.log").open("wb") as log:
        started = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=log)
    try:
        _until_it_answers(f"http://127.0.0.1:{port}", started, tmp_path)
        yield started, f"http://127.0.0.1:{port}"
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=60) == 0
    finally:
        started.kill()
        started.wait()


@contextmanager
def api(redis_url, tmp_path, **more):
    """A client of such a process."""
    with process(redis_url, tmp_path, **more) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def _until_it_answers(url, started, tmp_path):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert started.poll() is None, (tmp_path / "api.log").read_text()
        try:
            httpx.get(url + "/livez")
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError
