"""From the spool to jobs: series that are complete are routed, what is in the way is put aside or tried again.

C-STORE has no end mark: a series counts as complete when it has been quiet for a while. One that goes on afterwards is
submitted once more, whole, while its first part is still in the spool; later than that, what came last is a series of
its own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gateway.routing import Routed, route_files
from gateway.spool import Held, Spool
from reacquire.errors import ContainerError, InputError, OverloadedError
from reacquire.jobs.intake import Intake
from reacquire.jobs.logs import describe
from reacquire.pacs.config import PacsConfig

log = structlog.get_logger("gateway")

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
DAY_S = 86_400.0


@dataclass
class Collector:
    """Submits what is due; keeps for each series in trouble when to try it again.

    Attributes
    ----------
    on_routed : callable
        Told the outcome of each series, for metrics.
    """

    spool: Spool
    config: PacsConfig
    intake: Intake
    on_routed: Callable[[str], None] = lambda _outcome: None
    _waits: dict[str, tuple[float, float]] = field(default_factory=dict)  # series -> not before, last wait

    def tick(self) -> int:
        """Handle every series that is due; how many left the spool's to-do list."""
        due = self.spool.due(self.config.scp.series_quiet_s)
        names = {held.name for held in due}
        self._waits = {name: wait for name, wait in self._waits.items() if name in names}
        now = time.monotonic()
        return sum(self._settle(held) for held in due if self._waits.get(held.name, (now, 0.0))[0] <= now)

    def sweep(self) -> None:
        """Delete what is past its time."""
        scp = self.config.scp
        self.spool.sweep(keep_s=scp.keep_s, quarantine_s=scp.quarantine_days * DAY_S)

    def _settle(self, held: Held) -> bool:
        try:
            routed = self._route(held)
        except InputError as error:
            self.spool.condemn(held, error.code)
            log.warning("series put into quarantine", files=len(held.files), code=error.code)
            self.on_routed("quarantined")
            return True
        except Exception as error:  # the queue is full, Redis or the blob store is away: nothing is lost, it waits here
            self._postpone(held.name)
            reason = error.code if isinstance(error, OverloadedError) else describe(error)
            log.warning("series not submitted, will be tried again", files=len(held.files), reason=reason)
            return False
        self.spool.submitted(held)
        self._waits.pop(held.name, None)
        log.info(
            "series routed",
            files=len(held.files),
            outcome=routed.outcome,
            reason=routed.reason,
            jobs=[submission.job_id for submission in routed.submissions],
        )
        self.on_routed(routed.outcome)
        return True

    def _route(self, held: Held) -> Routed:
        limits = self.intake.limits
        if len(held.files) > limits.instances or held.size > limits.series_bytes:
            raise ContainerError("more than a series may have", code="too-large")  # before it is read into memory
        files = [path.read_bytes() for path in held.files]
        identity = (held.name, held.digest)
        return route_files(self.config.rules, files, identity, self.intake, notify=self.config.webhook is not None)

    def _postpone(self, name: str) -> None:
        wait = min(2 * self._waits.get(name, (0.0, FIRST_WAIT_S / 2))[1], LONGEST_WAIT_S)
        self._waits[name] = (time.monotonic() + wait, wait)
