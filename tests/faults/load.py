"""Clients that never give up: each job is submitted until it is accepted, followed to its end, its answer checked."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

FINAL = ("succeeded", "failed", "cancelled", "expired", "partial")


@dataclass
class Tally:
    """What became of the jobs."""

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)
    refused_503: int = 0
    without_retry_after: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> int:
        return sum(self.ends.values())


@dataclass(frozen=True)
class Pace:
    """When a job comes: ``burst`` of them at once every ``period_s``, so that the queue fills and empties."""

    started: float
    burst: int
    period_s: float

    def wait_for(self, number: int) -> None:
        """Sleep until the turn of job ``number``."""
        time.sleep(max(0.0, self.started + number // self.burst * self.period_s - time.monotonic()))


def run_clients(
    url: str, files: Sequence[bytes], count: int, tally: Tally, *, pace: Pace, threads: int
) -> list[threading.Thread]:
    """Start ``threads`` clients that share ``count`` jobs."""
    numbers = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                pace.wait_for(number)
                _one(client, files[number % len(files)], number, tally)

    started = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    return started


def _one(client: httpx.Client, data: bytes, number: int, tally: Tally) -> None:
    job = _submit(client, data, number, tally)
    with tally.lock:
        tally.ids[number] = job
    state = _follow(client, job)
    if state == "succeeded" and not _right(client, job, data, number):
        with tally.lock:
            tally.wrong.append(job)
    with tally.lock:
        tally.ends[state] += 1


def _submit(client: httpx.Client, data: bytes, number: int, tally: Tally) -> str:
    while True:
        try:
            answer = client.post(
                "/v1/segment",
                files={"dicom": ("a.dcm", data)},
                data={"options": f'{{"seed": {number}}}'},
                headers={"Idempotency-Key": f"job-{number}", "Prefer": "respond-async"},
            )
        except httpx.HTTPError:
            time.sleep(0.3)
            continue
        if answer.status_code == 202:
            return str(answer.json()["id"])
        with tally.lock:
            if answer.status_code == 503:
                tally.refused_503 += 1
                tally.without_retry_after += "retry-after" not in answer.headers
            elif answer.status_code < 500:
                tally.wrong.append(f"submit answered {answer.status_code}")
                return ""
        time.sleep(0.5)


def _follow(client: httpx.Client, job: str) -> str:
    while True:
        try:
            answer = client.get(f"/v1/jobs/{job}")
            if answer.status_code == 404:
                return "lost"
            if answer.status_code == 200 and answer.json()["status"] in FINAL:
                return str(answer.json()["status"])
        except httpx.HTTPError:
            pass
        time.sleep(0.8)


def _right(client: httpx.Client, job: str, data: bytes, number: int) -> bool:
    while True:
        try:
            answer = client.get(f"/v1/jobs/{job}/result", headers={"Accept": "application/json"})
        except httpx.HTTPError:
            time.sleep(0.3)
            continue
        if answer.status_code >= 500:
            time.sleep(0.3)
            continue
        expected = {"operation": "segment", "input": hashlib.sha256(data).hexdigest(), "seed": number}
        return answer.status_code == 200 and answer.json() == expected
