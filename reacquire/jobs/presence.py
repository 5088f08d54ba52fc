"""Which workers and couriers are alive: a heartbeat each in Redis, read by readiness probes and by the reconciler."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

from reacquire.jobs.store import JobStore

Role = Literal["worker", "courier"]


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker (or a courier) says about itself.

    Attributes
    ----------
    busy : number of jobs it holds
    warm : bundles whose networks are loaded and have run, hash to ``NAME@VERSION``
    offers : hashes of all bundles that it could run
    failed, reason : token of the activation whose bundle it could not warm up, and why
    """

    name: str
    device: str
    bundle: str
    version: str
    busy: int = 0
    role: Role = "worker"
    warm: Mapping[str, str] = field(default_factory=dict)
    offers: Sequence[str] = field(default_factory=list)
    failed: str = ""
    reason: str = ""


_KNOWN = frozenset(each.name for each in fields(WorkerInfo))


def _read(text: str) -> WorkerInfo:
    """What a worker wrote; one of a newer version may say more than we know."""
    return WorkerInfo(**{name: value for name, value in json.loads(text).items() if name in _KNOWN})


class Presence:
    """Heartbeats of workers, kept beside the job records."""

    def __init__(self, store: JobStore) -> None:
        self._client = store.client
        self._key = store.key("workers")
        self._info = store.key("worker-info")
        self._stale_ms = round(1000 * store.config.worker_stale_s)
        self._lock = store.key("reconciler")

    def _now_ms(self) -> int:
        seconds, micros = self._client.time()
        return seconds * 1000 + micros // 1000

    def beat(self, info: WorkerInfo) -> None:
        """Say that a worker is alive."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(self._key, {info.name: self._now_ms()})
            pipe.hset(self._info, info.name, json.dumps(asdict(info)))
            pipe.execute()

    def alive(self, role: Role = "worker") -> Mapping[str, WorkerInfo]:
        """Workers (or couriers) with a fresh heartbeat, by name."""
        names = self._client.zrangebyscore(self._key, self._now_ms() - self._stale_ms, "+inf")
        if not names:
            return {}
        texts = self._client.hmget(self._info, names)
        found = {n: _read(t) for n, t in zip(names, texts, strict=True) if t}
        return {n: info for n, info in found.items() if info.role == role}

    def leave(self, name: str) -> None:
        """A worker says good-bye."""
        self._client.zrem(self._key, name)
        self._client.hdel(self._info, name)

    def bury(self) -> list[str]:
        """Forget workers whose heartbeat stopped; their names, once."""
        names = self._client.zrangebyscore(self._key, "-inf", self._now_ms() - self._stale_ms)
        dead = [n for n in names if self._client.zrem(self._key, n)]
        if dead:
            self._client.hdel(self._info, *dead)
        return dead

    def take_turn(self, name: str, seconds: float) -> bool:
        """Whether this worker may reconcile now; one of them per period."""
        return bool(self._client.set(self._lock, name, nx=True, px=max(1, round(seconds * 1000))))
