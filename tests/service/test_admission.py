"""What is decided before a body is read: how large it may be, and whether there is room for it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from builders import make_mr

from service.admission import PLAIN_BYTES, Room

TOGETHER, UPLOAD = 500_000, 400_000


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"bodies_bytes": TOGETHER})


def test_room_is_for_all_together_and_one_alone_always_finds_it():
    room = Room(100)
    assert room.take(300) and not room.take(1)
    assert room.take(0), "a request without a body needs no room"
    room.give(300)
    assert room.take(60) and room.take(40) and not room.take(1)


def test_one_that_grows_is_not_in_its_own_way():
    room = Room(100)
    assert room.take(90) and room.take(90, beside=90)  # nobody else is here
    room.give(180)
    assert room.take(50) and room.take(30) and not room.take(30, beside=30)


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize("path", ["/v1/segment", "/v1/hooks/series"])
@pytest.mark.parametrize("declared", [True, False])
def test_what_is_no_upload_is_small(client, kind, path, declared):
    body = b'{"a": "' + b"x" * PLAIN_BYTES + b'"}'
    content = body if declared else iter([body[:PLAIN_BYTES], body[PLAIN_BYTES:]])
    answer = client.post(path, content=content, headers={"Content-Type": kind})
    # one that does not say its size may be refused for its type before anybody reads it
    unread = () if declared else ((415, "unsupported-media-type"), (422, "invalid-request"))
    assert (answer.status_code, answer.json()["code"]) in {(413, "too-large"), *unread}


class Slow(httpx.SyncByteStream):
    """The first half of a body, and the second once ``go`` is set; ``begun`` tells that it is asked for."""

    def __init__(self, body: bytes) -> None:
        self._body, self.begun, self.go = body, threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield self._body[: len(self._body) // 2]
        self.begun.set()
        self.go.wait(20)
        yield self._body[len(self._body) // 2 :]


def posted_until(status: int, post: Callable[[], httpx.Response], seconds: float = 15.0) -> httpx.Response:
    """The first answer of that status, or the last one: what another sends may not have arrived yet."""
    deadline = time.monotonic() + seconds
    while (answer := post()).status_code != status and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_that_finds_no_room_is_told_when_to_come_again(served, declared):
    built = httpx.Request("POST", "http://x/", files={"dicom": ("a.dcm", b"\0" * UPLOAD)})
    body, headers = built.read(), {"Content-Type": built.headers["content-type"]}
    size = {"Content-Length": str(len(body))} if declared else {"Transfer-Encoding": "chunked"}
    content = Slow(body)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(served.post, "/v1/segment", content=content, headers=headers | size)
        assert content.begun.wait(10)
        refused = posted_until(503, lambda: served.post("/v1/segment", content=body, headers=headers))
        content.go.set()
        assert slow.result().status_code == 415, "what is inside is not disturbed: it is no DICOM file"
    assert (refused.json()["code"], int(refused.headers["Retry-After"]) > 0) == ("overloaded", True)
    assert served.post("/v1/segment", content=body, headers=headers).status_code == 415, "the room is free again"


def test_who_waits_for_a_result_takes_no_room(served, pause, store):
    pause()
    noise = np.random.default_rng(0).integers(0, 2000, (480, 480), dtype=np.uint16)
    files = {"dicom": make_mr(noise)}
    assert TOGETHER / 2 < len(files["dicom"]) < TOGETHER
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.post, "/v1/segment", files=files, headers={"Prefer": "wait=5"})
        while not store.depth():
            assert not first.done()
        second = served.post("/v1/segment", files=files, headers={"Prefer": "respond-async"})
        assert (second.status_code, first.done()) == (202, False)
        assert first.result().status_code == 202
