"""What ``helm test`` runs, against an API that is only a table of answers."""

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest
from chart_rendering import CHART

SLICE = (CHART / "files" / "slice.dcm").read_bytes()
RESULT = SLICE[:132] + b"\x08\x00\x1c\x00CS\x04\x00YES "
JOB = {"id": "4f0c", "status": "queued"}


class Answers(BaseHTTPRequestHandler):
    """One answer per method and path, from the server's table; the last one of a list stays."""

    def do_POST(self) -> None:
        self.server.sent = self.rfile.read(int(self.headers["Content-Length"]))  # type: ignore[attr-defined]
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.logins.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        waiting = self.server.table[f"{self.command} {self.path}"]  # type: ignore[attr-defined]
        status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("helm_main_job", CHART / "files" / "main_job.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def api(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(script.time, "sleep", lambda seconds: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        server.logins = []  # type: ignore[attr-defined]
        server.table = {  # type: ignore[attr-defined]
            "POST /v1/counterfactual": [(202, JOB)],
            "GET /v1/jobs/4f0c": [(200, JOB | {"status": "running"}), (200, JOB | {"status": "succeeded"})],
            "GET /v1/jobs/4f0c/result": [(200, RESULT)],
        }
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_marked_counterfactual_is_enough(script: ModuleType, api: Any) -> None:
    assert "marked as synthetic" in script.main_job(api.url, SLICE, 60)
    assert SLICE in api.sent
    assert b'name="target"\r\n\r\n{"EchoTime": 2.4}' in api.sent


def test_every_request_shows_the_token(script: ModuleType, api: Any) -> None:
    script.main_job(api.url, SLICE, 60, "rq_1")
    assert api.logins == ["Bearer rq_1"] * 4


@pytest.mark.parametrize(("given", "sent"), [({"REACQUIRE_TOKEN": "rq_1\n"}, "Bearer rq_1"), ({}, None)])
def test_the_token_comes_from_the_variable_of_the_pod(api: Any, given: dict[str, str], sent: str | None) -> None:
    api.table["GET /v1/jobs/4f0c"] = [(200, JOB | {"status": "succeeded"})]
    words = [sys.executable, CHART / "files" / "main_job.py", api.url, CHART / "files" / "slice.dcm", "60"]
    subprocess.run(words, env=given, check=True, capture_output=True, timeout=60)
    assert set(api.logins) == {sent}


def test_the_form_is_read_as_it_was_meant(script: ModuleType) -> None:
    body, kind = script.form(b"\r\n--x\x00", {"target": "{}"})
    parts = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
    named = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}
    assert named == {"target": b"{}", "dicom": b"\r\n--x\x00"}


@pytest.mark.parametrize(
    ("path", "answers", "message"),
    [
        ("POST /v1/counterfactual", [(503, {"code": "overloaded"})], "answered 503.*overloaded"),
        ("GET /v1/jobs/4f0c", [(200, JOB | {"status": "failed", "error": {"code": "x-y"}})], "ended as failed.*x-y"),
        ("GET /v1/jobs/4f0c/result", [(200, b"PNG")], "not a DICOM file that is marked"),
        ("GET /v1/jobs/4f0c/result", [(200, SLICE.replace(b"YES ", b"NO  "))], "not a DICOM file that is marked"),
    ],
)
def test_anything_else_is_told(script: ModuleType, api: Any, path: str, answers: list[Any], message: str) -> None:
    api.table[path] = answers
    with pytest.raises(RuntimeError, match=message):
        script.main_job(api.url, SLICE, 60)


def test_patience_ends(script: ModuleType, api: Any) -> None:
    api.table["GET /v1/jobs/4f0c"] = [(200, JOB)]
    with pytest.raises(RuntimeError, match=r"still queued.*is a worker ready"):
        script.main_job(api.url, SLICE, 0.05)


def test_options_and_target_are_ones_that_the_service_takes(script: ModuleType) -> None:
    from reacquire.iap import load_vocabulary
    from reacquire.jobs.spec import Options

    assert Options.model_validate(script.OPTIONS).allow_synthetic is True
    load_vocabulary().validate(script.TARGET)
