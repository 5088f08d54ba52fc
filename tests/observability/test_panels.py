"""The dashboard as a picture: what its JSON says is what is asked, written and drawn."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from observability.dashboard import dashboard
from observability.panels import Window, curves_of, legend, picture


class FakePrometheus(BaseHTTPRequestHandler):
    """Answers two series to each query, and remembers it."""

    asked: list[str]

    def do_GET(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.asked.append(query["query"][0])
        series = [
            {"metric": {"operation": name, "code": name}, "values": [[100.0, "1"], [200.0, value]]}
            for name, value in (("segment", "2"), ("predict-iap", "NaN"))
        ]
        body = json.dumps({"status": "success", "data": {"result": series}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def prometheus():
    FakePrometheus.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakePrometheus)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_legend_is_filled_in_as_grafana_does():
    assert legend("{{operation}} p95", {"operation": "segment"}) == "segment p95"
    assert legend("{{ code }}", {}) == ""


def test_a_panel_has_its_queries_and_legends(prometheus):
    panel = next(p for p in dashboard()["panels"] if p["title"] == "Wait for a worker")
    curves = curves_of(panel, prometheus, Window(100, 200))
    assert FakePrometheus.asked == [t["expr"] for t in panel["targets"]]
    assert [c.name for c in curves] == ["segment p50", "predict-iap p50", "segment p95", "predict-iap p95"]


def test_every_panel_is_drawn(prometheus, tmp_path):
    board = dashboard() | {"panels": dashboard()["panels"][:4]}
    shown = picture(board, prometheus, Window(100, 200), tmp_path / "board.png")
    assert shown == {p["title"]: 2 * len(p["targets"]) for p in board["panels"][1:]}
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
