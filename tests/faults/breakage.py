"""What can go wrong, each a method that breaks something and puts it right again, and what was seen meanwhile."""

import random
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field

import redis

from tests.faults.stack import WORKERS, Stack

TAKEOVER_S = 60.0


@dataclass
class Happening:
    """One fault: how long it lasted, how many jobs it hit at work, and how long until others had all of them."""

    fault: str
    at_s: float
    seconds: float = 0.0
    hit: int = 0
    takeover_s: float | None = None
    exits: dict[str, int] = field(default_factory=dict)
    left_running: int | None = None

    def line(self) -> str:
        taken = "" if self.takeover_s is None else f"  {self.hit} at work, taken over in {self.takeover_s:.1f} s"
        drained = "" if self.left_running is None else f"  exits {self.exits}, {self.left_running} left running"
        return f"{self.at_s:7.1f} s  {self.fault:<18} {self.seconds:6.1f} s{taken}{drained}"


class Faults:
    """Plays faults on a stack and keeps a record of each."""

    def __init__(self, stack: Stack, rng: random.Random, clock: Callable[[], float]) -> None:
        self._stack, self._rng, self._clock = stack, rng, clock
        self.happened: list[Happening] = []

    @property
    def kinds(self) -> list[Callable[[Happening], None]]:
        """Every kind of fault that this machine allows."""
        kinds = [
            self.kill_worker, self.kill_api, self.kill_redis, self.freeze_worker, self.cut_redis,
            self.restart_everything,
        ]  # fmt: skip
        return [*kinds, self.fill_blobs] if self._stack.mounted else kinds

    def deck(self) -> list[Callable[[Happening], None]]:
        """Each kind once, workers killed twice, in random order."""
        faults = [*self.kinds, self.kill_worker]
        self._rng.shuffle(faults)
        return faults

    def play(self, fault: Callable[[Happening], None]) -> Happening:
        """One fault, until the stack is whole again."""
        record = Happening(fault.__name__, round(self._clock(), 1))
        started = time.monotonic()
        fault(record)
        record.seconds = round(time.monotonic() - started, 1)
        self._stack.until_whole()
        self.happened.append(record)
        return record

    def kill_worker(self, record: Happening) -> None:
        name, held = self._busy_worker()
        self._stack.kill(name)
        self._time_takeover(held, record)
        self._stack.start(name)

    def freeze_worker(self, record: Happening) -> None:
        name, held = self._busy_worker()
        self._stack.freeze(name)
        self._time_takeover(held, record)
        self._stack.thaw(name)  # it wakes up with leases that others hold now

    def kill_api(self, record: Happening) -> None:
        self._stack.kill("api")
        time.sleep(self._rng.uniform(0, 2))
        self._stack.start("api")

    def kill_redis(self, record: Happening) -> None:
        record.hit = len(self._running())
        self._stack.kill("redis")
        time.sleep(self._rng.uniform(0, 3))
        self._stack.start("redis")

    def cut_redis(self, record: Happening) -> None:
        record.hit = len(self._running())
        self._stack.cable.cut()
        time.sleep(self._rng.uniform(1, 6))
        self._stack.cable.mend()

    def fill_blobs(self, record: Happening) -> None:
        ballast = self._stack.blobs / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(65536))
        time.sleep(self._rng.uniform(2, 5))
        ballast.unlink()

    def restart_everything(self, record: Happening) -> None:
        """Orderly for API and workers, which let go of what they hold; then Redis is killed."""
        record.hit = len(self._some_running())
        record.exits = self._stack.stop_in_order("api", *WORKERS)
        record.left_running = len(self._running())
        self._stack.kill("redis")
        self._stack.start_all()

    def _busy_worker(self) -> tuple[str, dict[str, str]]:
        """A worker that is at work, and its jobs with their tokens: a fault that hits nobody proves nothing."""
        running = self._some_running()
        by_worker: dict[str, dict[str, str]] = {}
        for job, (token, worker) in running.items():
            by_worker.setdefault(worker, {})[job] = token
        names = {str(self._stack.processes[name].pid): name for name in WORKERS}
        known = {names[w.split("-")[-2]]: jobs for w, jobs in by_worker.items() if w.split("-")[-2] in names}
        name = self._rng.choice(sorted(known) or sorted(WORKERS))
        return name, known.get(name, {})

    def _some_running(self) -> dict[str, tuple[str, str]]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (found := self._running()):
            time.sleep(0.02)
        return found

    def _running(self) -> dict[str, tuple[str, str]]:
        """Jobs at work: their tokens and workers."""
        with closing(self._stack.client()) as client, suppress(redis.RedisError):
            ids = client.zrange("reacquire:running", 0, -1)
            found = {i: client.hmget(f"reacquire:job:{i}", "state", "token", "worker") for i in ids}
            return {i: (token, worker) for i, (state, token, worker) in found.items() if state == "running"}
        return {}

    def _time_takeover(self, held: dict[str, str], record: Happening) -> None:
        """Wait until each job that was running has ended or has been claimed anew."""
        started, record.hit = time.monotonic(), len(held)
        while held and time.monotonic() - started < 2 * TAKEOVER_S:
            with closing(self._stack.client()) as client, suppress(redis.RedisError):
                for job in list(held):
                    state, token = client.hmget(f"reacquire:job:{job}", "state", "token")
                    if state not in ("running", "queued") or token != held[job]:
                        del held[job]
            time.sleep(0.1)
        record.takeover_s = round(time.monotonic() - started, 1)


def as_rows(happened: list[Happening]) -> list[dict]:
    return [asdict(record) for record in happened]
