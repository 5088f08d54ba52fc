"""A small DICOMweb server in this process (PS3.18 10.4 to 10.6), slow, down, broken or lying as told."""

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
from builders import make_mr

from reacquire.pacs.multipart import PartCaps, boundary_of, read_parts

KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


STUDY, SERIES = "1.2.3.2", "1.2.3.3"  # of every file of ``builders``


def mr_series(count: int) -> dict[str, bytes]:
    """So many slices of one series by SOPInstanceUID, from feet to head."""
    uids = [f"1.2.3.4.{n}" for n in range(1, count + 1)]
    places = (["0", "0", str(n)] for n in range(1, count + 1))
    return {u: make_mr(SOPInstanceUID=u, ImagePositionPatient=p) for u, p in zip(uids, places, strict=True)}


@dataclass
class FakePacs:
    """What it holds, and how it misbehaves.

    ``answers`` are (status, headers) given to the next requests instead of an answer; ``on_request`` is called first.
    """

    instances: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    refuses: dict[str, int] = field(default_factory=dict)
    loses: set[str] = field(default_factory=set)
    hidden_looks: int = 0
    cut_after: int | None = None
    delay_s: float = 0.0
    password: str | None = None
    content_type: str | None = None
    raw_body: bytes | None = None
    stow_status: int | None = None
    stow_mute: bool = False
    extra: list[bytes] = field(default_factory=list)
    on_request: Callable[[str, str], None] = lambda _method, _path: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def holding(cls, files: Iterable[bytes], **how: Any) -> "FakePacs":
        """A PACS that has these files."""
        pacs = cls(**how)
        for data in files:
            pacs.add(data)
        return pacs

    def add(self, data: bytes) -> str:
        header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(KEYWORDS))
        study, series, uid = (str(header[k].value) for k in KEYWORDS)
        with self.lock:
            self.instances[uid], self.places[uid] = data, (study, series)
        return uid

    def of(self, study: str, series: str) -> list[str]:
        with self.lock:
            return [uid for uid, place in self.places.items() if place == (study, series)]

    def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> "Running":
        return Running(self, port, tls)


class Running:
    """A server that listens until ``stop``; ``port`` stays the same when it is started again."""

    def __init__(self, pacs: FakePacs, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        handler = type("Handler", (_Handler,), {"pacs": pacs})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that hangs up is what some tests are about
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def running(pacs: FakePacs) -> Iterator[Running]:
    server = pacs.start()
    try:
        yield server
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    pacs: FakePacs
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _begin(self) -> bool:
        """Record the request, misbehave; whether to go on."""
        pacs = self.pacs
        with pacs.lock:
            pacs.requests.append((self.command, self.path, dict(self.headers)))
            answer = pacs.answers.pop(0) if pacs.answers else None
        pacs.on_request(self.command, self.path)
        time.sleep(pacs.delay_s)
        if answer is not None:
            self._drain()
            self._send(answer[0], b"", "text/plain", **answer[1])
            return False
        if pacs.password is not None:
            expected = "Basic " + base64.b64encode(f"svc:{pacs.password}".encode()).decode()
            if self.headers.get("Authorization") != expected:
                self._drain()
                self._send(401, b"", "text/plain")
                return False
        return True

    def _drain(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.pacs.cut_after is not None and len(body) > self.pacs.cut_after:
            self.wfile.write(body[: self.pacs.cut_after])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def do_GET(self) -> None:
        if not self._begin():
            return
        address = urlsplit(self.path)
        parts = address.path.strip("/").split("/")[1:]  # below dicom-web
        if parts[-1] == "series":
            self._series(parts[1] if len(parts) == 3 else None, parse_qs(address.query))
            return
        study, series = parts[1], parts[3]
        uids = self.pacs.of(study, series)
        if parts[4:] == ["metadata"]:
            headers = [pydicom.dcmread(BytesIO(self.pacs.instances[u]), stop_before_pixels=True) for u in uids]
            self._json(200 if uids else 404, [h.to_json_dict() for h in headers])
        elif parts[4:] == ["instances"]:
            self._qido(uids, parse_qs(address.query))
        else:
            self._wado([u for u in uids if len(parts) < 6 or u == parts[5]])

    def _series(self, study: str | None, query: dict[str, list[str]]) -> None:
        found = sorted({place for place in self.pacs.places.values() if study in (None, place[0])})
        offset, limit = (int(query[name][0]) for name in ("offset", "limit"))
        tags = ("0020000D", "0020000E")
        items = [{tag: {"vr": "UI", "Value": [uid]} for tag, uid in zip(tags, place, strict=True)} for place in found]
        self._json(200, items[offset : offset + limit])

    def _qido(self, uids: list[str], query: dict[str, list[str]]) -> None:
        if self.pacs.hidden_looks > 0:
            self.pacs.hidden_looks -= 1
            uids = []
        offset, limit = (int(query[name][0]) for name in ("offset", "limit"))
        self._json(200, [{"00080018": {"vr": "UI", "Value": [u]}} for u in uids[offset : offset + limit]])

    def _wado(self, uids: list[str]) -> None:
        if not uids:
            self._send(404, b"", "text/plain")
            return
        if self.headers.get("Accept") == "application/dicom":  # as Orthanc does
            self._send(400, b"", "text/plain")
            return
        files = [self.pacs.instances[u] for u in uids] + self.pacs.extra
        body = b"".join(b"--BOUND\r\nContent-Type: application/dicom\r\n\r\n" + f + b"\r\n" for f in files)
        body = self.pacs.raw_body if self.pacs.raw_body is not None else body + b"--BOUND--\r\n"
        self._send(200, body, self.pacs.content_type or 'multipart/related; type="application/dicom"; boundary=BOUND')

    def do_POST(self) -> None:
        if not self._begin():
            return
        caps = PartCaps(1000, 2**30, 2**31)
        parts = list(read_parts(boundary_of(self.headers["Content-Type"]), [self._drain()], caps))
        good, bad = [], []
        for data in parts:
            try:
                uid = self.pacs.add(data) if self._takes(data) else ""
            except pydicom.errors.InvalidDicomError:
                uid = ""
            if uid:
                self.pacs.stored.append(uid)
                good.append(uid)
            elif uid := self._uid(data):
                bad.append(uid)
        for uid in self.pacs.loses & set(good):
            self.pacs.instances.pop(uid), self.pacs.places.pop(uid)
        status = self.pacs.stow_status or (200 if not bad else 409)
        if self.pacs.stow_mute:
            self._send(status, b"", "text/plain")
            return
        answer: dict[str, Any] = {}
        if good:
            answer["00081199"] = {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [u]}} for u in good]}
        if bad:
            items = [
                {
                    "00081155": {"vr": "UI", "Value": [u]},
                    "00081197": {"vr": "US", "Value": [self.pacs.refuses.get(u, 272)]},
                }
                for u in bad
            ]
            answer["00081198"] = {"vr": "SQ", "Value": items}
        self._json(status, answer)

    def _takes(self, data: bytes) -> bool:
        return self._uid(data) not in self.pacs.refuses

    @staticmethod
    def _uid(data: bytes) -> str:
        try:
            header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        except pydicom.errors.InvalidDicomError:
            return ""
        return str(header.SOPInstanceUID)

    def _json(self, status: int, document: Any) -> None:
        self._send(status, json.dumps(document).encode(), "application/dicom+json")
