"""One damaged file through the library and through the HTTP API, and what must hold of both."""

import asyncio
import tempfile
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from redis_fixture import redis_server

from reacquire.dicom import inspect, order_series, read_slice, unpack
from reacquire.errors import ReacquireError
from service.app import create_app
from service.settings import ServiceSettings

LONGEST_S = 10.0
EXPECTED = {200, 202}


@dataclass(frozen=True)
class Verdict:
    """How one file fared: the code it got (``accepted`` without one), the HTTP status, seconds, and what was wrong."""

    code: str
    status: int
    seconds: float
    fault: str | None = None


class NoPublisher:
    """Jobs stay where they are."""

    def publish(self, *_: Any, **__: Any) -> None:
        pass

    def close(self) -> None:
        pass


class Client:
    """Requests to the API in this very process, one at a time."""

    def __init__(self, app: Any) -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://fuzz")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


@contextmanager
def http_client() -> Iterator[Client]:
    """The API on a Redis of its own and a memory blob store, publishing to nobody."""
    with redis_server() as server, tempfile.TemporaryDirectory() as folder:
        settings = ServiceSettings(
            redis_url=SecretStr(server.url),
            blob_url="memory:///",
            key_prefix=f"f-{uuid.uuid4().hex[:8]}",
            bundles_root=Path(folder),
            max_queue=10**9,
        )
        app = create_app(settings)
        app.state.context = replace(app.state.context, publisher=NoPublisher())
        client = Client(app)
        try:
            yield client
        finally:
            client.close()
            app.state.context.store.client.close()


def through_library(data: bytes, *, allow_synthetic: bool) -> str:
    """``accepted``, or the code of the refusal; anything but a ReacquireError is the caller's to see."""
    try:
        members = unpack(data)
        headers = [inspect(member, allow_synthetic=allow_synthetic) for member in members]
        for member in members:
            read_slice(member, allow_synthetic=allow_synthetic)
        order_series(headers)
    except ReacquireError as error:
        return error.code
    return "accepted"


def through_http(client: Client, data: bytes) -> tuple[int, str]:
    """(status, code) of an upload; the job that it may have made is deleted again."""
    options = {"files": {"dicom": ("upload.dcm", data)}, "headers": {"Prefer": "respond-async"}}
    answer = client.request("POST", "/v1/segment", **options)
    if answer.status_code in EXPECTED:
        client.request("DELETE", answer.headers["location"])
        return answer.status_code, "accepted"
    return answer.status_code, answer.json()["code"]


def judge(client: Client | None, data: bytes, *, allow_synthetic: bool = False) -> Verdict:
    """Run both ways and compare with the invariants: named refusals only, no 5xx, nothing over ten seconds."""
    began = time.monotonic()
    code, status, fault = "none", 0, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning may quote a header value
            code = through_library(data, allow_synthetic=allow_synthetic)
        if code in ("internal-error", "overloaded"):
            fault = f"code {code}"
        if client is not None:
            status, told = through_http(client, data)
            if status >= 500:
                fault = f"HTTP {status}"
            elif told not in ("accepted", code) and not allow_synthetic:
                fault = f"the API says {told}, the library {code}"
    except BaseException:
        fault = traceback.format_exc(limit=-6)
    seconds = time.monotonic() - began
    if seconds > LONGEST_S:
        fault = fault or f"{seconds:.1f} s"
    return Verdict(code, status, seconds, fault)
