"""Notices out of the real store: every way in which a job ends is told, once it was taken."""

import json
import time

import httpx
import pytest
from builders import make_mr

from reacquire.jobs.record import Failure
from reacquire.jobs.spec import OperationSpec
from reacquire.pacs.webhook import SIGNATURE, Notifier, verify

KEY = b"a secret of sixteen bytes or more"
SEGMENT = OperationSpec(operation="segment")


class Receiver:
    """Answers as told and keeps what it saw."""

    def __init__(self) -> None:
        self.status, self.seen = 204, []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        assert verify(KEY, request.headers[SIGNATURE], body, now=time.time())
        self.seen.append(json.loads(body))
        return httpx.Response(self.status)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def told(store, receiver):
    client = httpx.Client(transport=httpx.MockTransport(receiver))
    return Notifier("https://receiver.test", KEY, store, client, time.time, least_s=0.2)


def enter(intake, *, notify: bool = True) -> str:
    return intake.files(SEGMENT, [make_mr()], notify=notify).job_id


def test_every_end_is_told_once_and_only_of_jobs_that_asked(intake, store, receiver, told):
    done, failed, cancelled, silent, waiting = (enter(intake, notify=n) for n in (True, True, True, False, True))
    claims = store.claim([done, failed, silent], "w")
    store.succeed(claims[0], [])
    store.fail(claims[1], Failure("degenerate-image", "the slice is constant"))
    store.succeed(claims[2], [])
    store.cancel(cancelled)
    assert told.drain() == 3
    assert {(n["id"], n["status"], n["code"]) for n in receiver.seen} == {
        (done, "succeeded", None),
        (failed, "failed", "degenerate-image"),
        (cancelled, "cancelled", None),
    }
    assert told.drain() == 0
    assert waiting not in {n["id"] for n in receiver.seen}


def test_a_notice_that_was_not_taken_is_kept_by_the_store_and_sent_again(intake, store, receiver, told):
    job = enter(intake)
    store.succeed(store.claim([job], "w")[0], [])
    receiver.status = 503
    assert told.drain() == 0
    assert told.drain() == 0, "not at once"
    assert len(receiver.seen) == 1
    receiver.status = 200
    deadline = time.monotonic() + 20
    while told.drain() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [n["id"] for n in receiver.seen] == [job, job]
    assert told.drain() == 0
