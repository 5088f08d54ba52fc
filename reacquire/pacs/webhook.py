"""The signed notice that a job of a rule has ended: what is in it, how it is signed, how a receiver checks it.

At least once: a receiver keeps (id, status) of what it has seen and ignores repetitions. The notice names the job and
nothing of the patient; whoever wants more asks the API. Who calls ``Notifier.drain``, and when, is the courier's.

A receiver, whole::

    from reacquire.pacs.webhook import verify

    @app.post("/reacquire")
    async def ended(request):
        body = await request.body()                                   # the bytes as they came, before any JSON parser
        if not verify(SECRET, request.headers["Reacquire-Signature"], body, now=time.time()):
            return Response(status_code=400)
        notice = json.loads(body)                                     # {"id", "operation", "status", "finished", ...}
        return Response(status_code=204)
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol
from urllib.parse import urljoin

import httpx

from reacquire.errors import JobError
from reacquire.jobs.record import JobRecord

SIGNATURE, EVENT = "Reacquire-Signature", "Reacquire-Event"
EVENT_FINISHED = "job.finished"
TOLERANCE_S = 300.0  # a notice that is older was recorded and played back
LEAST_SECRET = 16  # bytes
# The wait is as long as the notice is old, so it doubles from try to try: 12 of them in some 5 hours, then no more.
LEAST_DELAY_S, LONGEST_DELAY_S, MOST_TRIES = 5.0, 7200.0, 12
LEASE_S = 60.0  # longer than one try can last
TIMEOUT = httpx.Timeout(10.0, connect=5.0)

Outcome = Literal["sent", "postponed", "given-up", "gone"]


class Outbox(Protocol):
    """Where notices wait: the job store, so that none is lost with a process."""

    def get(self, job_id: str) -> JobRecord: ...
    def due_notifications(self, lease_s: float, most: int = ...) -> list[str]: ...
    def postpone_notification(self, job_id: str, delay_s: float) -> int: ...
    def notified(self, job_id: str) -> None: ...


def sign(secret: bytes, body: bytes, *, at: int) -> str:
    """The value of Reacquire-Signature: ``t=SECONDS,v1=HEX`` with HMAC-SHA256 over ``SECONDS.BODY``.

    Parameters
    ----------
    at : epoch seconds; signed too, so that an old notice cannot be played back for ever
    """
    return f"t={at},v1={_digest(secret, body, at)}"


def verify(secret: bytes, signature: str, body: bytes, *, now: float, tolerance_s: float = TOLERANCE_S) -> bool:
    """Whether a notice is ours, unchanged and fresh; any malformed signature is simply false.

    Parameters
    ----------
    signature : the header; several ``v1`` are allowed, one of them must fit (while a secret is being replaced)
    """
    parts = [part.strip().partition("=") for part in signature.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,15}", times[0]):
        return False
    expected = _digest(secret, body, int(times[0])).encode()
    given = [value.encode("utf-8", "replace") for name, _, value in parts if name == "v1"]
    fits = [hmac.compare_digest(expected, value) for value in given]  # all of them, in constant time each
    return any(fits) and abs(now - int(times[0])) <= tolerance_s


def _digest(secret: bytes, body: bytes, at: int) -> str:
    return hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def notice(record: JobRecord, *, api: str | None = None) -> bytes:
    """The body for a job that has ended.

    Parameters
    ----------
    api : address under which the receiver reaches our API; links are paths without it
    """
    links = {"self": f"/v1/jobs/{record.id}", "result": f"/v1/jobs/{record.id}/result"}
    document = {
        "id": record.id,
        "operation": record.operation,
        "status": record.state,
        "finished": datetime.fromtimestamp(record.finished_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "code": record.failure.code if record.failure else None,
        "links": {name: urljoin(api, path) if api else path for name, path in links.items()},
    }
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Notifier:
    """Sends the notices that are due, each with its own back-off; nothing here raises because of a receiver.

    Attributes
    ----------
    secret : bytes
        At least 16 bytes.
    clock : callable
        Epoch seconds.
    on_outcome : callable
        Told the job's id and what became of its notice, for logs and metrics.
    """

    url: str
    secret: bytes = field(repr=False)
    outbox: Outbox
    client: httpx.Client
    clock: Callable[[], float]
    api: str | None = None
    least_s: float = LEAST_DELAY_S
    on_outcome: Callable[[str, Outcome], None] = lambda _job, _outcome: None

    def __post_init__(self) -> None:
        if len(self.secret) < LEAST_SECRET:
            raise ValueError(f"the secret of the webhook must have at least {LEAST_SECRET} bytes")

    def drain(self, most: int = 20) -> int:
        """Try every notice that is due once; how many were delivered."""
        outcomes = []
        for job_id in self.outbox.due_notifications(LEASE_S, most):
            outcomes.append(self._settle(job_id))
            self.on_outcome(job_id, outcomes[-1])
        return outcomes.count("sent")

    def _settle(self, job_id: str) -> Outcome:
        try:
            record = self.outbox.get(job_id)
        except JobError:  # deleted in the meantime
            self.outbox.notified(job_id)
            return "gone"
        if self._send(notice(record, api=self.api)):
            self.outbox.notified(job_id)
            return "sent"
        age_s = self.clock() - record.finished_ms / 1000
        tries = self.outbox.postpone_notification(job_id, min(max(age_s, self.least_s), LONGEST_DELAY_S))
        if tries < MOST_TRIES:
            return "postponed"
        self.outbox.notified(job_id)
        return "given-up"

    def _send(self, body: bytes) -> bool:
        """One POST; only 2xx counts, redirects are not followed (they would carry the notice to another host)."""
        try:
            with self.client.stream("POST", self.url, content=body, headers=self._headers(body)) as answer:
                return answer.is_success  # the answer's body is nobody's business and might be endless
        except httpx.HTTPError:
            return False

    def _headers(self, body: bytes) -> Mapping[str, str]:
        return {
            "Content-Type": "application/json",
            SIGNATURE: sign(self.secret, body, at=int(self.clock())),
            EVENT: EVENT_FINISHED,
        }


def webhook_client() -> httpx.Client:
    """A client whose calls end; proxies of the environment are used, as a hospital may need one."""
    return httpx.Client(timeout=TIMEOUT, follow_redirects=False)
