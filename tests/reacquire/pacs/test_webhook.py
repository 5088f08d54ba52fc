"""The signed notice: what is in it, what a receiver can rely on, and what a broken receiver costs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reacquire.errors import JobError
from reacquire.jobs.record import Failure, JobRecord
from reacquire.jobs.spec import OperationSpec
from reacquire.pacs.webhook import EVENT, MOST_TRIES, SIGNATURE, Notifier, notice, sign, verify

KEY = b"0123456789abcdef0123456789abcdef"
JOB = "0" * 31 + "a"
NOW = 1_700_000_000


def record(**changes) -> JobRecord:
    fields = {"id": JOB, "state": "succeeded", "version": 3, "spec": OperationSpec(operation="segment"), "inputs": ()}
    return JobRecord(**{**fields, "created_ms": 1000 * NOW - 5000, "finished_ms": 1000 * NOW - 250, **changes})


@dataclass
class FakeOutbox:
    """The store's part in memory; remembers what it was told."""

    records: dict[str, JobRecord]
    waiting: list[str] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    def get(self, job_id: str) -> JobRecord:
        if job_id not in self.records:
            raise JobError("there is no such job", code="job-not-found")
        return self.records[job_id]

    def due_notifications(self, lease_s: float, most: int = 20) -> list[str]:
        return self.waiting[:most]

    def postpone_notification(self, job_id: str, delay_s: float) -> int:
        self.delays.append(delay_s)
        return len(self.delays)

    def notified(self, job_id: str) -> None:
        self.waiting.remove(job_id)


def notifier(outbox: FakeOutbox, answer: Callable[[httpx.Request], httpx.Response], **changes) -> Notifier:
    client = httpx.Client(transport=httpx.MockTransport(answer))
    return Notifier("https://receiver.test/hook", KEY, outbox, client, lambda: NOW, **changes)


def test_the_signature_is_the_documented_one():
    # printf '1700000000.{"id":"1"}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    digest = "e97957e90a053fb41f7859afbe3a7e90ee114550457a5fdf0e05bf42ee308c7f"
    assert sign(KEY, b'{"id":"1"}', at=NOW) == f"t=1700000000,v1={digest}"


@settings(deadline=None)
@given(body=st.binary(max_size=200), at=st.integers(0, 10**12), shift=st.integers(-300, 300))
def test_what_we_sign_is_accepted_while_it_is_fresh(body, at, shift):
    assert verify(KEY, sign(KEY, body, at=at), body, now=at + shift)


@settings(deadline=None)
@given(body=st.binary(min_size=1, max_size=64), place=st.integers(0, 63), bit=st.integers(0, 7))
def test_a_changed_body_time_or_secret_is_refused(body, place, bit):
    changed = bytearray(body)
    changed[place % len(body)] ^= 1 << bit
    signature = sign(KEY, body, at=NOW)
    assert not verify(KEY, signature, bytes(changed), now=NOW)
    assert not verify(KEY, signature.replace(f"t={NOW}", f"t={NOW + 1}"), body, now=NOW)
    assert not verify(KEY[:-1] + b"0", signature, body, now=NOW)


@pytest.mark.parametrize("shift", [-301, 301])
def test_an_old_notice_cannot_be_played_back(shift):
    assert not verify(KEY, sign(KEY, b"x", at=NOW), b"x", now=NOW + shift)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_nonsense_is_refused_without_an_error(header):
    assert not verify(KEY, header, b"x", now=NOW)


@pytest.mark.parametrize("times", ["", "t=1,t=1700000000,", "t=,", "t=-5,", "t=١٢,", "t=" + "9" * 400 + ","])
def test_a_signature_needs_one_sound_time(times):
    digest = sign(KEY, b"x", at=NOW).partition("v1=")[2]
    assert not verify(KEY, f"{times}v1={digest}", b"x", now=NOW)


def test_a_second_signature_lets_a_secret_be_replaced():
    old, new = sign(b"f" * 16, b"x", at=NOW), sign(KEY, b"x", at=NOW)
    assert verify(KEY, f"{old},{new.partition(',')[2]}", b"x", now=NOW)


def test_the_notice_says_what_ended_and_nothing_else():
    failed = record(state="failed", failure=Failure("no-pixels", "this object has no PixelData", "PixelData"))
    assert json.loads(notice(failed, api="https://reacquire.test/")) == {
        "id": JOB,
        "operation": "segment",
        "status": "failed",
        "finished": "2023-11-14T22:13:19.750+00:00",
        "code": "no-pixels",
        "links": {
            "self": f"https://reacquire.test/v1/jobs/{JOB}",
            "result": f"https://reacquire.test/v1/jobs/{JOB}/result",
        },
    }
    assert json.loads(notice(record()))["links"]["self"] == f"/v1/jobs/{JOB}"


def test_a_delivered_notice_can_be_checked_and_is_not_sent_again():
    seen: list[httpx.Request] = []

    def receive(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    outbox, outcomes = FakeOutbox({JOB: record()}, [JOB]), []
    told = notifier(outbox, receive, on_outcome=lambda *pair: outcomes.append(pair))
    assert (told.drain(), told.drain()) == (1, 0)
    (request,) = seen
    assert verify(KEY, request.headers[SIGNATURE], request.read(), now=NOW)
    assert request.headers[EVENT] == "job.finished"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.read())["id"] == JOB
    assert outcomes == [(JOB, "sent")]


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host")


@pytest.mark.parametrize(
    "answer",
    [
        unreachable,
        lambda _: httpx.Response(500),
        lambda _: httpx.Response(404),
        lambda _: httpx.Response(302, headers={"Location": "https://elsewhere.test"}),
    ],
)
def test_a_notice_that_was_not_taken_stays_and_is_given_up_in_the_end(answer):
    outbox, outcomes = FakeOutbox({JOB: record()}, [JOB]), []
    told = notifier(outbox, answer, on_outcome=lambda _, outcome: outcomes.append(outcome))
    for _ in range(MOST_TRIES + 3):
        assert told.drain() == 0
    assert outcomes == ["postponed"] * (MOST_TRIES - 1) + ["given-up"]
    assert outbox.waiting == []


@pytest.mark.parametrize(("age_s", "delay_s"), [(0, 5), (40, 40), (10**6, 7200)])
def test_the_wait_doubles_with_the_age_of_the_notice_within_bounds(age_s, delay_s):
    outbox = FakeOutbox({JOB: record(finished_ms=1000 * (NOW - age_s))}, [JOB])
    notifier(outbox, unreachable).drain()
    assert outbox.delays == [delay_s]


def test_a_deleted_job_is_not_told_and_does_not_stop_the_others():
    outbox = FakeOutbox({JOB: record()}, ["gone", JOB])
    assert notifier(outbox, lambda _: httpx.Response(200)).drain() == 1
    assert outbox.waiting == []


def test_a_short_secret_is_refused_and_a_good_one_not_shown():
    with pytest.raises(ValueError, match="16 bytes"):
        Notifier("https://receiver.test", b"short", FakeOutbox({}), httpx.Client(), lambda: NOW)
    assert KEY.decode() not in repr(notifier(FakeOutbox({}), unreachable))
