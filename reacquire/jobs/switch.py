"""A whole activation: propose, wait until every worker has the bundle warm, then switch; or leave all as it was."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from reacquire.errors import BundleError
from reacquire.jobs.activation import Activations
from reacquire.jobs.presence import Presence
from reacquire.jobs.record import BundleRef


@dataclass(frozen=True)
class Switch:
    """How bundles are activated. ``patience_s`` bounds the whole of one activation.

    ``cold`` asks no worker: for a release whose workers cannot start with the bundle they have.
    """

    activations: Activations
    presence: Presence
    patience_s: float = 300.0
    cold: bool = False
    poll_s: float = 0.2
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def activate(self, bundle: BundleRef) -> None:
        """Make ``bundle`` the one that jobs without a pin get from here on.

        Raises
        ------
        BundleError
            ``activation-failed``: another one was first, a worker could not warm it up, none lives, or time ran out.
        """
        token = self.activations.propose(bundle, patience_s=self.patience_s + 10)
        try:
            if not self.cold:
                self._await_workers(bundle, token)
            self.activations.commit(token)
        except BaseException:  # Ctrl-C too: nobody warms up what nobody waits for
            self.activations.withdraw(token)
            raise

    def rollback(self) -> BundleRef:
        """Activate the bundle that was active before; which one it was.

        Raises
        ------
        BundleError
            As ``activate``, and when there was none.
        """
        previous = self.activations.read().previous
        if previous is None:
            raise BundleError("no bundle was active before this one", code="activation-failed")
        self.activate(previous)
        return previous

    def _await_workers(self, bundle: BundleRef, token: str) -> None:
        deadline = self.clock() + self.patience_s
        while True:
            workers = list(self.presence.alive().values())
            if not workers:
                raise _failed("no worker is alive to warm it up (--cold switches without one)")
            for worker in workers:
                if worker.failed == token:
                    raise _failed(f"a worker could not warm {bundle.label} up: {worker.reason}")
            late = [worker for worker in workers if bundle.sha256 not in worker.warm]
            if not late:
                return
            if self.clock() > deadline:
                count = f"{len(late)} of {len(workers)}"
                raise _failed(f"{count} workers have not warmed {bundle.label} up in {self.patience_s:g} s")
            self.sleep(self.poll_s)


def _failed(why: str) -> BundleError:
    return BundleError(f"not activated: {why}; the active bundle is unchanged", code="activation-failed")
