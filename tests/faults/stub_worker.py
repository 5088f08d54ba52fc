"""A worker whose networks are a pause: its answer is a function of the input alone, so a wrong result shows."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from reacquire.jobs.logs import set_up
from reacquire.jobs.spec import OperationSpec
from worker.app import serve
from worker.settings import WorkerSettings

STEPS = 10
STEP_S = float(os.environ.get("FAULTS_STEP_S", "0.05"))


@dataclass(frozen=True)
class Work:
    spec: OperationSpec
    digest: str

    @property
    def batch_key(self) -> tuple:
        return (self.spec.operation,)

    pixels_cost = 1


@dataclass(frozen=True)
class Outcome:
    artifacts: dict[str, bytes]
    document: dict[str, Any]


class Stub:
    """Waits as long as a batch would take and answers with the digest of the input."""

    def prepare(self, spec: OperationSpec, files: Sequence[bytes]) -> Work:
        return Work(spec, hashlib.sha256(b"".join(files)).hexdigest())

    def run(self, works: Sequence[Work], on_step: Callable[[int, int], Collection[int]] | None = None) -> list[Any]:
        dropped: set[int] = set()
        for step in range(1, STEPS + 1):
            time.sleep(STEP_S)
            dropped |= set(on_step(step, STEPS) if on_step else ())
        return [None if i in dropped else work.digest for i, work in enumerate(works)]

    def finish(self, work: Work, raw: str) -> Outcome:
        document = {"operation": work.spec.operation, "input": raw, "seed": work.spec.options.seed}
        return Outcome({"segmentation.dcm": bytes(128) + b"DICM" + raw.encode() * 200}, document)


if __name__ == "__main__":
    set_up("worker", "warning")
    sys.exit(serve(WorkerSettings(), Stub(), bundle="stub"))
