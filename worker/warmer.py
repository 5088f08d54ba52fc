"""The thread that keeps a worker's bundles in step with what is active, and warms up what is about to be.

Loading takes seconds, so neither the consumer nor the heartbeat may do it: jobs go on with the old bundle meanwhile.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import redis
import structlog

from reacquire.errors import ReacquireError
from reacquire.jobs.activation import Activation, Activations
from reacquire.jobs.logs import describe
from reacquire.jobs.record import BundleRef
from worker.shelf import Shelf

log = structlog.get_logger("worker")

RETRY_S = 60.0  # a bundle that would not load may have been repaired


class Warmer(threading.Thread):
    """Follows the activation record; ``configured`` is the bundle of the settings, if it is sound."""

    def __init__(
        self, shelf: Shelf, activations: Activations, *, configured: BundleRef | None, period_s: float = 1.0
    ) -> None:
        super().__init__(name="warmer", daemon=True)
        self.shelf, self._activations, self._configured = shelf, activations, configured
        self._period_s = period_s
        self._state = Activation(active=configured)
        self._established = False
        self._failed, self._reason = "", ""
        self._offers: list[str] = []
        self._cold_since: float | None = None
        self._halt = threading.Event()

    def run(self) -> None:
        while not self._halt.is_set():
            try:
                self.step()
            except redis.RedisError as error:  # what is known stays good until Redis is back
                log.warning("activation not read", error=describe(error))
            except Exception as error:  # a dead warmer would be a worker that never follows
                log.error("warmer failed", error=describe(error))
            self._halt.wait(self._period_s)

    def stop(self) -> None:
        """Let the thread end, after what it is doing if that does not take long."""
        self._halt.set()
        self.join(timeout=5)

    def step(self) -> None:
        """Look once, and load what is missing."""
        state = self._activations.read()
        if self._configured is not None and (not self._established or state.active is None):
            self._activations.establish(self._configured)
            self._established = True
            state = self._activations.read()
        if state.active != self._state.active:
            log.info("active bundle", bundle=state.active.label if state.active else None, revision=state.revision)
            self._cold_since = None
        self._state = state
        self.shelf.protected = {each.sha256 for each in (state.active, state.candidate) if each}
        self._warm_active(state)
        self._warm_candidate(state)
        self._offers = self.shelf.offers  # here, for a new bundle is hashed: seconds that a heartbeat does not have

    def _warm_active(self, state: Activation) -> None:
        recently = self._cold_since is not None and time.monotonic() - self._cold_since < RETRY_S
        if state.active is None or self._warm(state.active) or recently:
            return
        try:
            self.shelf.pick(state.active)
            self._cold_since = None
        except ReacquireError as error:
            self._cold_since = time.monotonic()
            log.error("the active bundle cannot be served here", bundle=state.active.label, reason=error.detail)

    def _warm_candidate(self, state: Activation) -> None:
        if state.candidate is None or state.token == self._failed or self._warm(state.candidate):
            return
        try:
            self.shelf.pick(state.candidate)
        except ReacquireError as error:
            self._reason, self._failed = error.detail, state.token
            log.error("the bundle cannot be activated here", bundle=state.candidate.label, reason=error.detail)

    def _warm(self, bundle: BundleRef) -> bool:
        return bundle.sha256 in self.shelf.warm

    @property
    def ready(self) -> bool:
        """Whether the active bundle is warm, as far as is known."""
        active = self._state.active
        return active is None or self._warm(active)

    @property
    def active(self) -> BundleRef | None:
        """The active bundle as last seen."""
        return self._state.active

    def report(self) -> Mapping[str, Any]:
        """What a heartbeat says of bundles."""
        found = {"warm": self.shelf.warm, "offers": self._offers, "failed": self._failed, "reason": self._reason}
        active = self.active
        return found | ({"bundle": active.series} if active else {})
