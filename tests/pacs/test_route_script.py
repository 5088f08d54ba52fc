"""The script for Orthanc by itself: what becomes of a series while nobody takes the announcement."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from builders import make_mr
from loop import LUA, hook_environment
from pacs_stack import until

from examples.orthanc_server import Orthanc

FIRST, REFUSED, LAST = "1.2.3.10", "1.2.3.11", "1.2.3.12"


class Api(ThreadingHTTPServer):
    """Takes announcements, or answers 503; never takes that of one series."""

    away = True

    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        api: Any = self.server
        series = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["series"]
        refused = api.away or series == REFUSED
        if not refused:
            api.told.append(series)
        body = b"{}"
        self.send_response(503 if refused else 202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def orthanc(tmp_path, api) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path, lua=[LUA], environment=hook_environment(api.server_address[1]))
    server.start()
    yield server
    server.stop()


def test_a_series_that_nobody_took_is_announced_with_a_later_one(orthanc, api, tmp_path):
    log = tmp_path / "orthanc.log"
    for number, series in enumerate((REFUSED, FIRST), start=1):
        orthanc.store([make_mr(SeriesInstanceUID=series, SOPInstanceUID=f"{series}.1")])
        until(lambda n=number: log.read_text().count("could NOT be announced") >= n, 30, "the attempt")
    assert api.told == []
    api.away = False
    orthanc.store([make_mr(SeriesInstanceUID=LAST, SOPInstanceUID=f"{LAST}.1")])
    until(lambda: LAST in api.told, 30, "the announcement")
    orthanc.store([make_mr(SeriesInstanceUID=f"{LAST}.1", SOPInstanceUID=f"{LAST}.2")])
    until(lambda: FIRST in api.told, 30, "the announcement of the one that waited behind the refused one")
    assert sorted(api.told) == [FIRST, LAST, f"{LAST}.1"]
