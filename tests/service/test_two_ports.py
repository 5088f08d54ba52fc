"""Metrics and probes on a port of their own, in the real process; and what a slow client can hold."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from api_process import api

from cli.serve import ServeOptions, own_port
from examples.embedded import free_port
from service.app import create_app
from service.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]


def test_numbers_are_on_their_own_port_alone(redis_url, tmp_path):
    inner = free_port()
    with api(redis_url, tmp_path, REACQUIRE_METRICS_PORT=inner) as client:
        outside = {path: client.get(path).status_code for path in ("/livez", "/readyz", "/healthz", "/metrics")}
        assert outside == {"/livez": 200, "/readyz": 404, "/healthz": 404, "/metrics": 404}
        inside = {path: httpx.get(f"http://127.0.0.1:{inner}{path}") for path in ("/livez", "/readyz", "/metrics")}
        assert {path: answer.status_code for path, answer in inside.items()} == dict.fromkeys(inside, 200)
        assert 'reacquire_http_requests_total{method="GET",route="/livez",status="200"}' in inside["/metrics"].text
        assert httpx.get(f"http://127.0.0.1:{inner}/v1/capabilities").status_code == 404
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{inner}/livez")


def test_a_port_that_is_taken_is_told(redis_url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        told = {"REACQUIRE_METRICS_PORT": str(other.getsockname()[1]), "REACQUIRE_PORT": str(free_port())}
        run = subprocess.run(
            [sys.executable, "-m", "service"], cwd=ROOT, env=os.environ | told, capture_output=True, text=True
        )
    assert (run.returncode, "REACQUIRE_METRICS_PORT is taken" in run.stderr) == (2, True)


def test_one_port_for_both_is_refused():
    with pytest.raises(ValueError, match="must differ"):
        ServiceSettings(port=8000, metrics_port=8000)


def test_the_documentation_follows_the_ports():
    paths = create_app(ServiceSettings(blob_url="memory:///", metrics_port=9100)).openapi()["paths"]
    assert "/livez" in paths and not {"/metrics", "/readyz"} & set(paths)


def test_processes_of_the_embedded_stack_get_a_port_each():
    env = {"REACQUIRE_METRICS_PORT": "9100", "A": "b"}
    names = ("service", "worker", "courier", "scp")
    assert [own_port(name, env)["REACQUIRE_METRICS_PORT"] for name in names] == ["9100", "9101", "9102", "9103"]
    assert own_port("worker", {"A": "b"}) == {"A": "b"}
    assert set(ServeOptions("h", 1, None, Path(), "cpu").restartable) <= set(names)


HEAD = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"


@pytest.fixture
def hasty(monkeypatch):
    """Deadlines that a test can wait for."""
    monkeypatch.setattr("service.patience.PatientProtocol.head_s", 0.3)


@pytest.fixture
def settings(config, tmp_path):
    return ServiceSettings(**config.model_dump(), bundles_root=tmp_path, body_grace_s=0.4, body_rate=10_000)


@pytest.fixture
def door(served):
    host, port = served.base_url.host, served.base_url.port
    with socket.create_connection((host, port), timeout=10) as connection:
        yield connection


def drip(connection, data, seconds):
    """Send a byte every 0.1 s for so long or until the other side hangs up; what was answered."""
    deadline, answer = time.monotonic() + seconds, b""
    connection.settimeout(0.1)
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
            answer += (got := connection.recv(65536))
            if not got:
                return answer, True
        except TimeoutError:
            pass
        except OSError:
            return answer, True
        if time.monotonic() > deadline:
            break
    return answer, False


@pytest.mark.parametrize("sent", [b"", b"X-A: b\r\n"], ids=["silent", "half a head"])
def test_a_head_that_does_not_come_ends_the_connection(hasty, door, sent):
    if sent:
        door.sendall(HEAD + sent)
    assert door.recv(1) == b"", "closed, without an answer"


def test_a_head_that_drips_ends_the_connection(hasty, door):
    assert drip(door, HEAD * 10, 8) == (b"", True)


def test_a_body_that_drips_is_answered_408_and_ended(hasty, door):
    door.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--b\r\n")
    answer, ended = drip(door, b"x" * 900, 20)
    assert (b" 408 " in answer.splitlines()[0], b"request-timeout" in answer, ended) == (True, True, True)


def test_slow_clients_do_not_keep_others_out(hasty, served):
    dripping = [socket.create_connection((served.base_url.host, served.base_url.port)) for _ in range(60)]
    for connection in dripping:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--b\r\n")
    assert served.get("/livez").status_code == 200
    assert served.get("/readyz").status_code == 200, "a probe needs a thread, and none is held"
    for connection in dripping:
        connection.close()


def test_a_connection_that_is_used_again_is_not_cut(hasty, served):
    answers = []
    for _ in range(3):
        answers.append(served.get("/livez").status_code)
        time.sleep(0.4)  # longer than a head may take; between two requests a connection may idle
    assert answers == [200] * 3
