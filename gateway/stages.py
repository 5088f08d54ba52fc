"""What the stages of a PACS job have in common: the claim they work under, and when they must let go of it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import redis

from reacquire.jobs.leases import Leases
from reacquire.jobs.record import Claim
from reacquire.jobs.store import Progress

PROGRESS_S = 0.5


class LetGo(Exception):
    """The claim was cancelled or lost, or this process is stopping."""


@dataclass
class Grip:
    """A claim in work: says whether to go on, and reports progress at a bounded rate."""

    claim: Claim
    leases: Leases
    clock: Callable[[], float] = time.monotonic
    _last: float = field(default=float("-inf"))

    def go_on(self, done: int = 0, total: int = 0) -> None:
        """Called between two units of work, ``done`` of ``total`` (0: nobody knows).

        Raises
        ------
        LetGo
            When the claim must be let go of.
        """
        now = self.clock()
        if now - self._last >= PROGRESS_S:
            self._last = now
            with suppress(redis.RedisError):  # the next report, or the commit, finds out
                self.leases.report([Progress(self.claim, done, total)])
        if self.leases.draining.is_set() or self.leases.verdict(self.claim) != "held":
            raise LetGo
