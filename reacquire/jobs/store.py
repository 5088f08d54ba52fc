"""The truth about jobs: records in Redis, changed only by the transactions of ``scripts``.

Celery may deliver a message twice, late or never; what decides is the claim (lease and fencing token) taken here. Bytes
are in ``blobs``, messages in ``broker``; workers' heartbeats in ``presence``.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

import redis

from reacquire.errors import AccessError, JobError, OverloadedError
from reacquire.jobs import scripts
from reacquire.jobs.config import JobsConfig
from reacquire.jobs.record import Artifact, BundleRef, Claim, Delivery, Failure, JobRecord, Model, RouteSpec, is_job_id
from reacquire.jobs.spec import OperationSpec
from reacquire.jobs.states import COURIER_STAGES, Event, Stage, State

Held = Literal["held", "cancel", "lost"]

QUEUE_FULL = "the queue is full; try again later"
NO_MODEL = Model()
NOTHING: Mapping[str, str] = MappingProxyType({})
EXHAUSTED = Failure("job-failed", "the job was given up after the workers that ran it had died")


@dataclass(frozen=True)
class Idempotency:
    """A client's key and the fingerprint of the request it stands for.

    ``ttl_s`` None keeps it as long as the configuration says. A key whose job is in one of the states ``free_in`` is
    free again: what a PACS sends by itself nobody repeats under a new key.
    """

    key: str
    fingerprint: str
    ttl_s: float | None = None
    free_in: Collection[State] = ()

    @property
    def stored_key(self) -> str:
        """Only a digest is stored: a client may have put anything into its key."""
        return hashlib.sha256(self.key.encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """Where a job begins, the site that its results go to ('' for none), and whether its end is told to the webhook.

    ``owner`` is the caller whose job it is ('' for nobody); ``most`` bounds its jobs at one time (0: no bound).
    ``bundle`` is the one that the caller has pinned; None takes the active one.
    ``trace`` is the W3C ``traceparent`` of the request, if traces are on.
    """

    stage: Stage = "compute"
    deliver_to: str = ""
    notify: bool = False
    owner: str = ""
    most: int = 0
    bundle: BundleRef | None = None
    trace: str = ""


@dataclass(frozen=True)
class Progress:
    """Where a claimed job stands: ``step`` of ``steps``; step -1 renews the lease and reports nothing."""

    claim: Claim
    step: int = -1
    steps: int = 0


def connect(config: JobsConfig) -> redis.Redis:
    """A client whose calls end: bounded connect, read and retry times."""
    return redis.Redis.from_url(
        config.redis_url.get_secret_value(),
        decode_responses=True,
        socket_timeout=10,
        socket_connect_timeout=5,
        health_check_interval=30,
    )


def _artifacts(artifacts: Sequence[Artifact]) -> str:
    return json.dumps([asdict(a) for a in artifacts])


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


@dataclass(frozen=True)
class Reaped:
    """A job whose lease ran out: what it is now, and in which stage."""

    id: str
    state: State
    stage: Stage

    @property
    def must_be_sent(self) -> bool:
        """Whether workers have to be woken for it."""
        return self.state == "queued" and self.stage not in COURIER_STAGES


class JobStore:
    """Job records of one key prefix; safe to share between threads.

    Parameters
    ----------
    client : redis.Redis
        A client with ``decode_responses=True``.
    config : JobsConfig
        Prefix, lease, limits and times to live.
    """

    def __init__(self, client: redis.Redis, config: JobsConfig) -> None:
        self.client: Any = client  # redis-py types every answer as a union of everything
        self.config = config
        self._scripts = {
            name: client.register_script(scripts.PRELUDE + getattr(scripts, name)) for name in scripts.EVERY
        }

    @property
    def channel(self) -> str:
        """Pub/sub channel that carries the id of every job that ends, expires or is deleted."""
        return f"{self.config.key_prefix}:ends"

    def key(self, name: str) -> str:
        return f"{self.config.key_prefix}:{name}"

    def _call(self, name: str, *arguments: str | int | float) -> Any:
        return self._scripts[name](keys=[], args=[self.config.key_prefix, *arguments])

    # -- the service's side -------------------------------------------------------------------------------------

    def create(
        self,
        job_id: str,
        spec: OperationSpec | RouteSpec,
        inputs: Sequence[str],
        *,
        plan: Plan = Plan(),
        idempotency: Idempotency | None = None,
    ) -> tuple[JobRecord, bool]:
        """Enter a job as ``queued``.

        Returns
        -------
        tuple[JobRecord, bool]
            The job and True; or, for a repeated idempotent request, the first one's as it is now and False.

        Raises
        ------
        OverloadedError
            When the queue is full.
        AccessError
            ``rate-limited`` when the owner has as many unfinished jobs as it may have.
        JobError
            ``idempotency-mismatch`` when the key was used for another request.
        """
        fields = {"operation": spec.operation, "spec": spec.model_dump_json(), "inputs": json.dumps(list(inputs))}
        fields |= {"stage": plan.stage, "deliver_to": plan.deliver_to, "notify": str(int(plan.notify))}
        fields |= {"bundle": plan.bundle.to_json()} if plan.bundle else {}
        fields |= {"trace": plan.trace} if plan.trace else {}
        idem: tuple[str | int, ...] = ("", "", 0, "")
        if idempotency is not None:
            ttl_s = self.config.idempotency_ttl_s if idempotency.ttl_s is None else idempotency.ttl_s
            idem = (idempotency.stored_key, idempotency.fingerprint, max(1, _ms(ttl_s)), ",".join(idempotency.free_in))
        outcome, *found = self._call(
            "CREATE", job_id, self.config.max_queue, *idem, plan.owner, plan.most, *_flat(fields)
        )
        if outcome == "full":
            raise OverloadedError(QUEUE_FULL, code="overloaded")
        if outcome == "busy":
            raise AccessError(f"at most {plan.most} jobs of one caller at a time", code="rate-limited")
        if outcome == "mismatch":
            raise JobError("this Idempotency-Key belongs to another request", code="idempotency-mismatch")
        job_id, flat = found
        return JobRecord.from_hash(job_id, dict(zip(flat[::2], flat[1::2], strict=True))), outcome == "created"

    def get(self, job_id: str) -> JobRecord:
        """The record of a job.

        Raises
        ------
        JobError
            ``job-not-found``.
        """
        fields = self.client.hgetall(self.key(f"job:{job_id}")) if is_job_id(job_id) else {}
        if not fields or "state" not in fields:
            raise JobError("there is no such job; results are deleted after a while", code="job-not-found")
        return JobRecord.from_hash(job_id, fields)

    def cancel(self, job_id: str) -> State:
        """Cancel a queued job at once, flag a running one; returns the state it was in.

        Raises
        ------
        JobError
            ``job-not-found``.
        """
        before: State | None = (
            self._call("CANCEL", job_id, _ms(self.config.result_ttl_s)) if is_job_id(job_id) else None
        )
        if not before:
            raise JobError("there is no such job", code="job-not-found")
        return before

    def delete(self, job_id: str) -> bool:
        """Forget a job; a worker that runs it loses its claim. False when it was unknown."""
        return is_job_id(job_id) and self._call("DELETE", job_id) == 1

    # -- the workers' and couriers' side ------------------------------------------------------------------------

    def claim(self, ids: Sequence[str], worker: str) -> list[Claim]:
        """Take those of ``ids`` that are queued for workers; a message seen twice claims nothing the second time."""
        ids = [i for i in ids if is_job_id(i)]
        if not ids:
            return []
        tokens = self._call("CLAIM", worker, _ms(self.config.lease_s), *ids)
        return [Claim(i, token) for i, token in zip(ids, tokens, strict=True) if token]

    def take(self, courier: str, most: int) -> list[Claim]:
        """Take up to ``most`` jobs that wait for a courier and whose time has come; no message is needed."""
        flat = self._call("TAKE", courier, _ms(self.config.lease_s), most)
        return [Claim(job_id, token) for job_id, token in zip(flat[::2], flat[1::2], strict=True)]

    def touch(self, items: Sequence[Progress]) -> list[Held]:
        """Renew leases and report progress; says for each job whether it is held, to be cancelled, or lost."""
        if not items:
            return []
        flat = [part for p in items for part in (p.claim.id, p.claim.token, p.step, p.steps)]
        return self._call("TOUCH", _ms(self.config.lease_s), *flat)

    def abandon(self, worker: str) -> int:
        """End the leases of a worker or courier that has nothing in hand; how many there were.

        It has such jobs when the answer to a claim, or a commit, was lost on the way. ``reap`` hands them to others.
        """
        return int(self._call("ABANDON", worker))

    def bundles_of(self, ids: Sequence[str]) -> list[str]:
        """The bundle of each job as the store writes it, '' for none (yet); to bring jobs of one bundle together."""
        with self.client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hget(self.key(f"job:{job_id}"), "bundle")
            return [found or "" for found in pipe.execute()]

    def set_batch(self, claims: Sequence[Claim], batch_id: str, model: Model = NO_MODEL) -> None:
        """Record which batch a job ran in (why it took as long as it did), and on which weights."""
        flat = [part for claim in claims for part in (claim.id, claim.token)]
        self._call("BATCH", batch_id, len(claims), *model, *flat)

    def advance(
        self, claim: Claim, stage: Stage, *, inputs: Sequence[str] | None = None, artifacts: Sequence[Artifact] = ()
    ) -> State | None:
        """Commit a stage: the job waits for ``stage``, with new inputs or with artifacts; None for a stale claim."""
        fields: dict[str, str] = {"stage": stage}
        fields |= {"inputs": json.dumps(list(inputs))} if inputs is not None else {}
        fields |= {"artifacts": _artifacts(artifacts)} if artifacts else {}
        return self._finish(claim, "advance", fields)

    def succeed(
        self,
        claim: Claim,
        artifacts: Sequence[Artifact],
        *,
        delivery: Delivery | None = None,
        children: Sequence[str] = (),
    ) -> State | None:
        """Commit a result; the state it led to (``cancelled`` when that was asked for), or None for a stale claim.

        With a delivery that lacks instances the state is ``partial``.
        """
        fields = {"artifacts": _artifacts(artifacts)}
        fields |= {"delivery": delivery.to_json()} if delivery else {}
        fields |= {"children": json.dumps(list(children))} if children else {}
        return self._finish(claim, "part" if delivery and delivery.failed else "succeed", fields)

    def fail(self, claim: Claim, failure: Failure, *, delivery: Delivery | None = None) -> State | None:
        """Commit an error; None for a stale claim."""
        return self._finish(claim, "fail", {"delivery": delivery.to_json()} if delivery else {}, failure=failure)

    def acknowledge_cancel(self, claim: Claim) -> State | None:
        """The worker has let go of a cancelled job."""
        return self._finish(claim, "cancel")

    def release(self, claim: Claim, *, delay_s: float = 0.0) -> State | None:
        """Give a job back unharmed, for now or (a courier's) for later; the attempt does not count."""
        return self._finish(claim, "requeue", delay_s=delay_s)

    def _finish(
        self,
        claim: Claim,
        event: Event,
        fields: Mapping[str, str] = NOTHING,
        *,
        failure: Failure | None = None,
        delay_s: float = 0.0,
    ) -> State | None:
        text, code = (failure.to_json(), failure.code) if failure else ("", "")
        times = _ms(self.config.result_ttl_s), text, code, _ms(delay_s)
        state = self._call("FINISH", claim.id, claim.token, event, *times, *_flat(fields))
        return state or None

    # -- the reconciler's side ----------------------------------------------------------------------------------

    def reap(self) -> list[Reaped]:
        """Take jobs from workers and couriers whose lease ran out."""
        flat = self._call(
            "REAP", self.config.max_attempts, _ms(self.config.result_ttl_s), EXHAUSTED.to_json(), EXHAUSTED.code
        )
        return [Reaped(*three) for three in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]

    def expire(self) -> list[str]:
        """Move finished jobs past their time to live to ``expired``; the ids whose blobs must go."""
        return self._call("EXPIRE", _ms(self.config.tombstone_ttl_s))

    def to_drop(self, most: int = 200) -> list[str]:
        """Some of the jobs that were deleted or have expired, and whose bytes may still be there."""
        return list(self.client.srandmember(self.key("drop"), most))

    def dropped(self, job_id: str) -> None:
        """No byte of it is left."""
        self.client.srem(self.key("drop"), job_id)

    def stale(self, age_s: float) -> list[str]:
        """Queued jobs whose last message is older than ``age_s``, now marked as sent again."""
        return self._call("STALE", _ms(age_s))

    # -- ended jobs of which the webhook must be told --------------------------------------------------------------

    def due_notifications(self, lease_s: float, most: int = 20) -> list[str]:
        """Ended jobs to tell of now; nobody else is handed them for ``lease_s``."""
        return self._call("NOTICES", _ms(lease_s), most)

    def postpone_notification(self, job_id: str, delay_s: float) -> int:
        """The webhook did not take it: try again later. How often so far; 0 when there is nothing to tell."""
        return int(self._call("PUT_OFF", job_id, _ms(delay_s)))

    def notified(self, job_id: str) -> None:
        """The webhook took it, or nobody tells it any more."""
        self.client.zrem(self.key("notify"), job_id)

    # -- numbers ------------------------------------------------------------------------------------------------

    def full(self) -> bool:
        """Whether a new job would be refused now."""
        with self.client.pipeline(transaction=False) as pipe:
            for name in set(scripts.QUEUES.values()):
                pipe.zcard(self.key(name))
            return sum(pipe.execute()) >= self.config.max_queue

    def depth(self, stage: Stage = "compute") -> int:
        """Jobs waiting for those who do ``stage``."""
        return int(self.client.zcard(self.key(scripts.QUEUES[stage])))

    def running(self) -> int:
        """Jobs at work."""
        return int(self.client.zcard(self.key("running")))

    def totals(self) -> Mapping[tuple[str, ...], int]:
        """Jobs ever finished, by (operation, state, model)."""
        return self._counts("totals")

    def failures(self) -> Mapping[tuple[str, ...], int]:
        """Jobs ever failed, by (error code, operation, model)."""
        return self._counts("failures")

    def _counts(self, name: str) -> Mapping[tuple[str, ...], int]:
        """Counters by three words; an older version counted by fewer of them."""
        counts: dict[tuple[str, ...], int] = {}
        for text, number in self.client.hgetall(self.key(name)).items():
            words = text.split(" ")
            key = (*words, *("unknown", "none")[len(words) - 1 :])
            counts[key] = counts.get(key, 0) + int(number)
        return counts
