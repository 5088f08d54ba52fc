"""A pipeline without networks, for tests of everything around it; ``python -m tests.fakes`` serves it as a worker.

The files tell it what to do: each is a JSON object such as {"steps": 5, "step_s": 0.1, "fail": "degenerate-image"}.
Real DICOM bytes are taken as an empty object.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reacquire.errors import PixelError, ReacquireError
from reacquire.jobs.spec import OperationSpec


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@dataclass(frozen=True)
class FakeWork:
    spec: OperationSpec
    orders: Mapping[str, Any]
    slices: int = 1

    @property
    def batch_key(self) -> tuple:
        return (self.spec.operation, self.spec.options.steps)

    @property
    def pixels_cost(self) -> int:
        return int(self.orders.get("cost", 1000)) * self.slices


@dataclass(frozen=True)
class FakeOutcome:
    artifacts: Mapping[str, bytes]
    document: Mapping[str, Any]


@dataclass
class FakePipeline:
    """Prepares, runs and finishes as ordered; remembers the sizes of the batches it ran."""

    fits: int = 1000
    batches: list[int] = field(default_factory=list)

    def prepare(self, spec: OperationSpec, files: Sequence[bytes]) -> FakeWork:
        orders = json.loads(files[0]) if files[0].startswith(b"{") else {}
        if "refuse" in orders:
            raise PixelError("refused by the fake", code=orders["refuse"])
        if "crash_prepare" in orders:
            raise KeyError(orders["crash_prepare"])
        return FakeWork(spec, orders, len(files))

    def run(self, works: Sequence[FakeWork], on_step: Callable[[int, int], Collection[int]] | None = None) -> list[Any]:
        self.batches.append(len(works))
        if len(works) > self.fits or any("too_large" in w.orders for w in works):
            raise OutOfMemoryError("CUDA out of memory")
        if any("die" in w.orders for w in works):
            os._exit(9)
        steps = max(int(w.orders.get("steps", 1)) for w in works)
        dropped: set[int] = set()
        for step in range(1, steps + 1):
            time.sleep(max(float(w.orders.get("step_s", 0)) for w in works))
            if any("crash" in w.orders for i, w in enumerate(works) if i not in dropped):
                raise ValueError(works[0].orders.get("crash"))
            dropped |= set(on_step(step, steps) if on_step else ())
            if len(dropped) == len(works):
                break
        return [None if i in dropped else self._raw(w) for i, w in enumerate(works)]

    def _raw(self, work: FakeWork) -> Any:
        if "fail" in work.orders:
            return PixelError("failed by the fake", code=work.orders["fail"])
        return {"pid": os.getpid(), "batch": self.batches[-1]}

    def finish(self, work: FakeWork, raw: Mapping[str, Any]) -> FakeOutcome:
        if "crash_finish" in work.orders:
            raise RuntimeError(work.orders["crash_finish"])
        operation = work.spec.operation
        document = {"operation": operation, "seed": work.spec.options.seed, **raw}
        if operation == "predict-iap":
            return FakeOutcome({}, document)
        stem = "segmentation" if operation == "segment" else "counterfactual"
        files = {f"{stem}-{i:04d}.dcm": b"\0" * 128 + b"DICM" + bytes([i]) for i in range(1, work.slices + 1)}
        return FakeOutcome({**files, "preview.png": b"\x89PNG\r\n\x1a\n"}, document)


def orders(**what: Any) -> bytes:
    """A file that makes the fake do something."""
    return json.dumps(what).encode()


def every_error() -> list[ReacquireError]:
    """One error of each class and code of the library's tree."""
    classes = [ReacquireError]
    for cls in classes:
        classes.extend(cls.__subclasses__())
    return [cls("detail", code=code) for cls in classes for code in cls.codes]


class SilentPublisher:
    """No worker listens; jobs stay queued."""

    def publish(self, ids: Iterable[str], *, priority: int = 6) -> None: ...


def ended_as(runner: Any) -> set[tuple[str, ...]]:
    """Operations and outcomes that the worker has counted."""
    counted = (sample for metric in runner.metrics.items.collect() for sample in metric.samples)
    return {tuple(sample.labels.values()) for sample in counted if sample.name.endswith("_total")}


if __name__ == "__main__":
    from reacquire.jobs.logs import set_up
    from worker.app import serve
    from worker.settings import WorkerSettings

    set_up("worker", os.environ.get("REACQUIRE_LOG_LEVEL", "info"))
    sys.exit(serve(WorkerSettings(), FakePipeline(), bundle="fake"))
