"""The claims that a worker or courier holds, shared by the threads that work and the one that keeps them alive."""

import threading
import time
from collections.abc import Callable, Collection

from reacquire.jobs.record import Claim
from reacquire.jobs.store import Held, JobStore, Progress


class Leases:
    """Claims in hand, when they were taken, and which of them must be let go.

    Parameters
    ----------
    store : JobStore
        Where the leases are renewed.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: dict[Claim, float] = {}
        self._verdicts: dict[Claim, Held] = {}
        self.draining = threading.Event()
        self.cut_off = threading.Event()  # Redis is away from a process that stops: it waits for it no more
        self._fed = clock()

    def feed(self) -> None:
        """Messages have come."""
        self._fed = self._clock()

    def hungry_s(self) -> float:
        """How long nothing has come while nothing was in hand."""
        return 0.0 if self.held else self._clock() - self._fed

    def add(self, claim: Claim) -> None:
        with self._lock:
            self._taken[claim] = self._clock()

    def remove(self, claim: Claim) -> None:
        with self._lock:
            self._taken.pop(claim, None)
            self._verdicts.pop(claim, None)

    @property
    def held(self) -> tuple[Claim, ...]:
        with self._lock:
            return tuple(self._taken)

    def oldest_s(self) -> float:
        """Age of the oldest claim; 0 when there is none."""
        with self._lock:
            return self._clock() - min(self._taken.values()) if self._taken else 0.0

    def renew(self) -> None:
        """Extend every lease in hand; remembers what the store said of each."""
        self.report([Progress(claim) for claim in self.held])

    def report(self, items: Collection[Progress]) -> None:
        """Extend the leases of ``items`` and write their progress."""
        verdicts = self._store.touch(list(items))
        with self._lock:
            for item, verdict in zip(items, verdicts, strict=True):
                if item.claim in self._taken and verdict != "held":
                    self._verdicts[item.claim] = verdict

    def verdict(self, claim: Claim) -> Held:
        """``cancel`` or ``lost`` when the claim must be let go, else ``held``."""
        with self._lock:
            return self._verdicts.get(claim, "held")
